"""What the page lists: the best moments of everything, results with counts, videos. Imports all of the library."""
