"""Scans, trainings and downloads as child processes with a row each. Imports library and system."""
