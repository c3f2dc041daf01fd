"""Writes clips and pictures of a video to files. Imports video.read and system."""
