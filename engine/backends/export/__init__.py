"""Exports a model as an ONNX file, compared with Torch before it is kept. Imports backends, checkpoints, swin."""
