"""Rows in and out: files, volumes, heads, observations, runs. Imports only the database."""
