"""The parts of `card.py`. Each module measures one thing and reports rows as it finds them."""
