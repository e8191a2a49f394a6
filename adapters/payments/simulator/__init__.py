"""A simulated payment provider: Stripe's objects, test cards only, in its own process with its own
memory."""

from adapters.payments.simulator.app import create_app

__all__ = ["create_app"]
