"""The library: contents, files, observations, annotations and segments in SQLite. Imports neither torch nor av."""
