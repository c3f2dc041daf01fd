"""Annotations of a person: their log with undo, their file, and their effect on segments. Imports store."""
