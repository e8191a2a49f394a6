"""The base class of events, and the registry of wire names.

An event is a frozen struct that holds its payload and nothing else; position, stream, time and
actor belong to the envelope (`eventstore.log.Envelope`). Its wire name is fixed for ever and
independent of the class name.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, TypeVar

import msgspec

PERSONAL = msgspec.Meta(extra={"personal": True})
PersonalText = Annotated[str, PERSONAL]
"""Text that is stored encrypted under its person's own key; it reads as `FORGOTTEN` (kit) once the
key is destroyed."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact. Each subclass is the payload of one wire name.

    `PERSON` names the payload field with the id of the person whose key encrypts the personal
    fields; when empty, the stream's own id is the person's. `KIND` is the kind of the stream, which
    is fixed for ever.
    """

    NAME: ClassVar[str] = ""
    PERSON: ClassVar[str] = ""
    KIND: ClassVar[str] = ""


E = TypeVar("E", bound=Event)

EVENTS: dict[str, type[Event]] = {}
"""Every current event class by wire name."""


def event(name: str, *, person: str = "", kind: str = "") -> Callable[[type[E]], type[E]]:
    """Register an event class under its wire name. The kind of its stream is the name's first word
    unless `kind` is given.

    Raises ValueError when the name is taken.
    """

    def register(cls: type[E]) -> type[E]:
        if name in EVENTS:
            raise ValueError(f"two events are named {name}")
        cls.NAME, cls.PERSON, cls.KIND = name, person, kind or name.split(".", maxsplit=1)[0]
        EVENTS[name] = cls
        return cls

    return register
