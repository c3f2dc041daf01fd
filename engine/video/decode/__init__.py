"""Decodes in processes that may crash or hang without harm to the caller. Imports video.read."""
