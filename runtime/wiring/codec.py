"""The codec of all of the program's events."""

import commands.aggregates  # noqa: F401 - brings every event, and every old shape
from domain.events import EVENTS, UPCASTERS
from eventstore.codec import Codec


def codec() -> Codec:
    """The codec for the program's log: all events of its aggregates under their wire names, and
    their old versions."""
    return Codec(EVENTS, UPCASTERS)
