"""The placeholder for data of forgotten people."""

FORGOTTEN = "[forgotten]"
"""How a personal text of an event reads once its person's key is destroyed."""
