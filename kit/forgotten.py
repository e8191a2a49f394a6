"""What stands in place of a personal text that cannot, or may not, be read."""

FORGOTTEN = "[forgotten]"
"""How a personal text of an event reads once its person's key is destroyed."""

ENCRYPTED = "[encrypted]"
"""Stands for a personal text where it is shown to somebody who may not read it."""
