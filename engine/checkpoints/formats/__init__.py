"""A module for each file format, which returns named tensors as data. Imports only checkpoints and swin."""
