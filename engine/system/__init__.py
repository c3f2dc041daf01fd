"""Clock, signals and file locks: what every room needs of the operating system. Imports errors, paths and text."""
