"""Labelled clips: folders, lists, splits, loading and augmentation. Imports the engine."""
