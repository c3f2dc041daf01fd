"""How the models that ship were made; not part of the installed package."""
