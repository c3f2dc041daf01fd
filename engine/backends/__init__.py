"""Runs models with Torch or ONNX Runtime behind one protocol. Imports models, checkpoints, swin and system."""
