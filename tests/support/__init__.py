"""What tests share: servers, processes, shops, events, databases."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
