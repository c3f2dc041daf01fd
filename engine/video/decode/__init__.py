"""Decoding in processes that may crash or hang without harm to the scan. Imports video.read."""
