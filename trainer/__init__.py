"""The trainer: new heads and networks from labelled clips. Imports the engine."""
