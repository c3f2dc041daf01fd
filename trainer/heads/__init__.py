"""Tags of a person's own: a linear head, or a network tuned for them. Imports the trainer's other packages."""
