"""Reads video files: their properties, the frames of a window, their pixels. Imports errors, text, PyAV and NumPy."""
