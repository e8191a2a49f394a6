"""Spans: what took how long, and what led to it, from a request to all that follows from it.

Until spans are wanted (`use`), nothing of OpenTelemetry is imported, and a span costs a function
call. docs/monitoring.md says which spans there are.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Kind = Literal["internal", "server", "client", "consumer"]
Attributes = Mapping[str, str | int | Sequence[str]]

TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
"""W3C Trace Context's `traceparent`: trace, span and flags, in hexadecimal digits."""


class Spans(Protocol):
    """What makes spans: the functions of this module say what each of these does."""

    def span(
        self,
        name: str,
        about: str | None,
        kind: Kind,
        expected: tuple[type[BaseException], ...],
        attributes: Attributes | None,
    ) -> AbstractContextManager[None]: ...

    def record(
        self,
        name: str,
        about: str,
        began: int,
        ended: int,
        links: Sequence[str],
        attributes: Attributes | None,
    ) -> None: ...

    def describe(self, attributes: Attributes, name: str, *, failed: bool) -> None: ...

    def traceparent(self) -> str | None: ...


_spans: Spans | None = None
_NO_SPAN = nullcontext()


def use(spans: Spans | None) -> None:
    """Make spans from now on, in this process; with None, no more."""
    global _spans
    _spans = spans


def is_on() -> bool:
    """Whether spans are made."""
    return _spans is not None


def span(
    name: str,
    about: str | None = None,
    *,
    kind: Kind = "internal",
    expected: tuple[type[BaseException], ...] = (),
    attributes: Attributes | None = None,
) -> AbstractContextManager[None]:
    """A span for the block. `name` has few values, as a metric's label has.

    Its parent is the span at hand, if there is one and it belongs to the trace of the `traceparent`
    in `about`. If it belongs to another trace, `about` is the parent, and the span at hand is
    linked. An exception is noted by its type; it makes the span a failure unless it is `expected`.
    """
    if _spans is None:
        return _NO_SPAN
    return _spans.span(name, about, kind, expected, attributes)


def call(
    server: str, expected: tuple[type[BaseException], ...] = ()
) -> AbstractContextManager[None]:
    """A span for the call of another server, if it is part of something that has a span: what a
    process looks up for itself begins no trace."""
    if _spans is None or _spans.traceparent() is None:
        return _NO_SPAN
    return _spans.span(f"call {server}", None, "client", expected, {"server.name": server})


def record(
    name: str,
    about: str,
    began: int,
    ended: int,
    *,
    links: Sequence[str] = (),
    attributes: Attributes | None = None,
) -> None:
    """A span between two moments (nanoseconds since 1970), with the span `about` as its parent and
    links to others (`traceparent`s)."""
    if _spans is not None:
        _spans.record(name, about, began, ended, links, attributes)


def describe(attributes: Attributes, *, name: str = "", failed: bool = False) -> None:
    """Say more about the span at hand: what is known only at its end."""
    if _spans is not None:
        _spans.describe(attributes, name, failed=failed)


def traceparent(otherwise: str | None = None) -> str | None:
    """The `traceparent` of the span at hand. `otherwise`, if there is none."""
    return otherwise if _spans is None else _spans.traceparent() or otherwise


def headers() -> dict[str, str]:
    """The HTTP header that makes what a server does a part of the span at hand; none without
    one."""
    found = traceparent()
    return {} if found is None else {"traceparent": found}
