"""A payment: its events (`events`), its state (`state`), its decisions (`decisions`), and its
refunds (`refunds`)."""

from domain.payments.decisions import *  # noqa: F403
from domain.payments.events import *  # noqa: F403
from domain.payments.state import *  # noqa: F403
