"""Video files: what they contain (read), in separate processes (decode), and clips of them (write)."""
