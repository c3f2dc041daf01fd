"""Clock, signals, file locks, atomic writes: what rooms need of the operating system. Imports errors, paths, text."""
