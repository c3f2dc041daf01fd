"""Accuracy, thresholds and reports. Imports the engine, data and loop."""
