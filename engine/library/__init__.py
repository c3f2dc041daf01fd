"""The library: contents, files, observations, words and segments in SQLite. Imports neither torch nor av."""
