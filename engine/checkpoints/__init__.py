"""Published model files and our model folder, read as data: nothing in a file is executed. Imports swin.config."""
