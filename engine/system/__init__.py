"""Clock, signals, mounts, locks, atomic writes: what the rooms need of the system. Imports errors, paths, text."""
