"""Reads and writes every event of the program."""

import commands.aggregates  # noqa: F401 - brings every event, and every old shape
from domain.events import EVENTS, UPCASTERS
from eventstore.codec import Codec


def codec() -> Codec:
    """The codec of the program's log: all events that its aggregates have, under their wire names,
    and their old shapes."""
    return Codec(EVENTS, UPCASTERS)
