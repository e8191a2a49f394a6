"""A payment provider that is not one: Stripe's shape, test cards only, in a process and with a memory of its own."""

from adapters.payments.simulator.app import create_app

__all__ = ["create_app"]
