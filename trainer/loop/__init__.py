"""One training as a generator of events that resumes bit-identically. Imports the engine and data."""
