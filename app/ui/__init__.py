"""The web page: a thin face over the library; the server never loads a model."""
