"""Joins libraries that were filled apart: on several machines, or by shards of a scan. Imports the rooms below."""
