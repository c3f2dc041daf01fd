"""Removes and moves rows when files are gone or moved. Imports store and annotations."""
