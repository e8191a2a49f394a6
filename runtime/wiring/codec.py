"""Reads and writes every event of the program."""

from commands import aggregates
from domain import payments
from domain.events import EVENTS
from eventstore.codec import Codec

assert aggregates.ALL, "the aggregates bring all their events"


def codec() -> Codec:
    """The codec of the program's log: all events that its aggregates have, under their wire names."""
    return Codec(EVENTS, payments.UPCASTERS)
