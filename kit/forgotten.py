"""What is left of a person who was forgotten."""

FORGOTTEN = "[forgotten]"
"""What a personal text of an event reads as once its person's key is destroyed."""
