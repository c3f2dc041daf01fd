"""Training of a whole network by a recipe. Imports the engine, data, loop and evaluation."""
