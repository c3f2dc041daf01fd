"""Labelled clips: folders, lists, splits, decoding and augmentation. Imports the engine."""
