"""A person's verdicts: the log with undo, its file, and how it changes segments. Imports store."""
