"""Plays whole videos in a browser: says how, and repackages or converts while it plays; imports read and write."""
