"""Video in: what a file holds, which instants a window looks at, and the pixels it sees."""
