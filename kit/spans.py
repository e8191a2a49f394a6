"""Spans by OpenTelemetry's API, for `kit.tracing`. Only imported where spans are made."""

from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
)

from kit.tracing import TRACEPARENT, Attributes, Kind

_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}


class OpenTelemetrySpans:
    """Implements `kit.tracing.Spans` by a tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(
        self,
        name: str,
        about: str | None,
        kind: Kind,
        expected: tuple[type[BaseException], ...],
        attributes: Attributes | None,
    ) -> Iterator[None]:
        at_hand = trace.get_current_span().get_span_context()
        given = _context_of(about)
        parent: Context | None = None
        links: list[Link] = []
        if given is not None and given.trace_id != at_hand.trace_id:
            parent = _child_of(given)
            links = [Link(at_hand)] if at_hand.is_valid else []
        with self._tracer.start_as_current_span(
            name,
            parent,
            _KINDS[kind],
            attributes,
            links,
            record_exception=False,  # its message may be about a person
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                if not isinstance(error, (CancelledError, *expected)):
                    span.set_status(StatusCode.ERROR)
                raise

    def record(
        self,
        name: str,
        about: str,
        began: int,
        ended: int,
        links: Sequence[str],
        attributes: Attributes | None,
    ) -> None:
        parent = _context_of(about)
        if parent is None:
            return
        linked = [Link(found) for each in links if (found := _context_of(each)) is not None]
        self._tracer.start_span(
            name, _child_of(parent), SpanKind.CONSUMER, attributes, linked, began
        ).end(ended)

    def describe(self, attributes: Attributes, name: str, *, failed: bool) -> None:
        span = trace.get_current_span()
        span.set_attributes(attributes)
        if name:
            span.update_name(name)
        if failed:
            span.set_status(StatusCode.ERROR)

    def traceparent(self) -> str | None:
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return None
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def _context_of(traceparent: str | None) -> SpanContext | None:
    found = TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    trace_id, span_id, flags, _ = found.groups()
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def _child_of(parent: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())
