"""Reads and writes rows: files, volumes, heads, observations, runs, settings. Imports only the database."""
