"""A scan: discovers, plans, decodes, runs the model, stores. The one room that joins video, backends and library."""
