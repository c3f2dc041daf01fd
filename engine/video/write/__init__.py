"""Clips, encodings and pictures out of a video. Imports video.read."""
