"""Query text to moments. Imports store and annotations."""
