"""What lines of the log are about: the ids of the request that led to the work at hand."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from structlog.contextvars import bound_contextvars, get_contextvars

_IDS = ("correlation_id", "trace_id")


@contextmanager
def about_request(correlation_id: UUID | str | None, traceparent: str | None) -> Iterator[None]:
    """Lines that are logged in the block name this correlation and this trace (a W3C
    `traceparent`), if they are known."""
    ids: dict[str, str] = {}
    if correlation_id is not None:
        ids["correlation_id"] = str(correlation_id)
    _, _, rest = (traceparent or "").partition("-")
    if trace_id := rest.partition("-")[0]:
        ids["trace_id"] = trace_id
    with bound_contextvars(**ids):
        yield


def request_ids() -> Mapping[str, str]:
    """The ids that lines of the log name now."""
    bound = get_contextvars()
    return {name: bound[name] for name in _IDS if name in bound}
