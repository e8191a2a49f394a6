"""The base class of events, and the registries of wire names and of old shapes.

An event is a frozen struct that holds its payload and nothing else; position, stream, time and
actor belong to the envelope (`eventstore.log.Envelope`). Its wire name is fixed for ever and
independent of the class name.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar

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
        cls.NAME = name
        cls.PERSON = person
        cls.KIND = kind or name.split(".", maxsplit=1)[0]
        EVENTS[name] = cls
        return cls

    return register


Payload = dict[str, Any]
"""The JSON object of an event."""

Upcast = Callable[[Payload], Payload]

UPCASTERS: dict[str, tuple[str, Upcast]] = {}
"""By old wire name: the name of the next version, and the function that makes its payload from the
old one."""


def upcasts(name: str) -> Callable[[Upcast], Upcast]:
    """Register how payloads of an old wire name are turned into those of the next version:
    `payment.intent_cancelled.v1` into `payment.intent_cancelled.v2`.

    Raises ValueError when the name is taken.
    """
    stem, _, version = name.rpartition(".v")

    def register(upcast: Upcast) -> Upcast:
        if name in UPCASTERS:
            raise ValueError(f"{name} is upcast twice")
        UPCASTERS[name] = f"{stem}.v{int(version) + 1}", upcast
        return upcast

    return register
