"""Exports a model as an ONNX file, which is compared with Torch before it gets its name. Imports backends."""
