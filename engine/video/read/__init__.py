"""What a file holds, which instants a window samples, and its pixels. Imports PyAV and NumPy."""
