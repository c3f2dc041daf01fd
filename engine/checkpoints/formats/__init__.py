"""One module a file format; each returns named tensors as data. Imports only its parent."""
