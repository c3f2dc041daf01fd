"""The faces: the command line and the page. They ask and show; no SQL, no tensors."""
