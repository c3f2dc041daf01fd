"""A linear head for a person's tags on a frozen backbone. Imports data and evaluation."""
