"""What an event is here, and the table of every wire name.

An event is a frozen struct that holds its payload and nothing else; position, stream, time and actor are the envelope's
(`eventstore.log.Envelope`). Its wire name is fixed for ever and independent of the class name.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, TypeVar

import msgspec

PERSONAL = msgspec.Meta(extra={"personal": True})
PersonalText = Annotated[str, PERSONAL]
"""A text that is stored encrypted under its person's own key; reads as `FORGOTTEN` (kit) once the key is destroyed."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact. Subclasses hold the payload of one wire name.

    `PERSON` names the payload field with the id of the person whose key encrypts the personal fields; empty means
    that the stream itself is the person's. `KIND` is the kind of stream that holds it: a stream has one for ever.
    """

    NAME: ClassVar[str] = ""
    PERSON: ClassVar[str] = ""
    KIND: ClassVar[str] = ""


E = TypeVar("E", bound=Event)

EVENTS: dict[str, type[Event]] = {}
"""Every current event class by its wire name."""


def event(name: str, *, person: str = "", kind: str = "") -> Callable[[type[E]], type[E]]:
    """Register a class under its wire name; its stream's kind is that name's first word unless `kind` says otherwise.

    Raises ValueError when the name is taken.
    """

    def register(cls: type[E]) -> type[E]:
        if name in EVENTS:
            raise ValueError(f"two events are named {name}")
        cls.NAME, cls.PERSON, cls.KIND = name, person, kind or name.split(".", maxsplit=1)[0]
        EVENTS[name] = cls
        return cls

    return register
