"""Parses queries and evaluates them to moments. Imports store and the database."""
