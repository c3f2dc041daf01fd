"""Scans: find videos, decode, run the model, store features. Imports video, backends, library and models."""
