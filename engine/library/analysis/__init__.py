"""Derived data: segments, curves, history, similar moments. Imports store and annotations."""
