"""Accuracy, thresholds and reports. Imports data."""
