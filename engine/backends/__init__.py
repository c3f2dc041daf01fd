"""One file a runtime, behind one protocol."""
