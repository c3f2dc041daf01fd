"""Training of the whole network by a recipe. Imports data, loop and heads."""
