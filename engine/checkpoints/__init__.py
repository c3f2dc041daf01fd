"""Reads and writes model files as data: nothing in a file is executed. Imports swin and system."""
