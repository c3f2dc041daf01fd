"""Video Swin Transformer: sizes, the trainable network and names of weights. Imports errors; no other room."""
