"""A payment: its events and state (`events`), its decisions (`decisions`), and its refunds
(`refunds`)."""

from domain.payments.decisions import *  # noqa: F403
from domain.payments.events import *  # noqa: F403
