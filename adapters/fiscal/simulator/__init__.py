"""A fiscal operator that is not one: it keeps the books of sellers' receipts, in a process and a file of its own."""

from adapters.fiscal.simulator.app import create_app

__all__ = ["create_app"]
