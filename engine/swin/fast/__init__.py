"""The same network for inference only: equal logits, as fast as the device allows. Imports torch and swin."""
