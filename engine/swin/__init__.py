"""Video Swin Transformer: sizes, module, and the published checkpoint formats."""
