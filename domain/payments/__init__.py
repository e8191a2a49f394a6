"""A payment: its events and state (`events`), what may be decided about it (`decisions`), and how it is refunded."""

from domain.payments.decisions import *  # noqa: F403
from domain.payments.events import *  # noqa: F403
