"""Models on this machine and in the catalog: names, downloads, hashes. Imports checkpoints, swin and system."""
