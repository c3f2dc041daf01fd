"""The trainer: new heads and backbones from a person's own clips."""
