"""Derives segments; computes score curves, history and similar moments. Imports store, annotations, search."""
