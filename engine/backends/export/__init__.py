"""A model written as an ONNX file, compared with Torch before it gets its name. Imports the backends."""
