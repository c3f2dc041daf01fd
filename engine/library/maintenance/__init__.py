"""Removes and moves rows when files are gone or moved. Imports store, annotations and analysis."""
