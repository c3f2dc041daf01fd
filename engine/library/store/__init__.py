"""Reads and writes rows: files, volumes, heads, observations, runs, settings. Imports the database, swin, system."""
