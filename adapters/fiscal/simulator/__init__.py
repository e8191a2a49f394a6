"""A simulated fiscal operator: it keeps the books of sellers' receipts, in its own process and
file."""

from adapters.fiscal.simulator.app import create_app

__all__ = ["create_app"]
