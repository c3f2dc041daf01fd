"""Scans, trainings and downloads as child processes, one after the other. Imports library and models."""
