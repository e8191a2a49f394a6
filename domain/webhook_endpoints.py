"""A webhook endpoint: a URL that receives certain events of a seller, and the secret that signs
them.

The platform's endpoints (of an ADMIN) receive every seller's events. The secret is stored sealed. A
rotated secret signs for another day beside the new one, so that the receiver can switch without
losing a message. An endpoint is disabled when it answers 410 Gone, when five deliveries in a row
were given up, or by hand; its seller cannot enable what an operator disabled.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Forbidden, Invalid
from domain.events import Event, event
from domain.ids import derived

Reason = Literal["gone", "failing", "owner", "operator", "account_closed"]

OLD_SECRET_SIGNS = timedelta(hours=24)
FAILURES_IN_A_ROW = 5
MAX_ENDPOINTS, MAX_PATTERNS = 20, 50

# -- events ----------------------------------------------------------------------------------------


@event("webhook_endpoint.created.v1")
class EndpointCreated(Event, frozen=True):
    """The endpoint was created: from now on, events that match these patterns (`*`, `order.*`,
    `order.completed.v1`) are sent to `url`."""

    seller_id: UUID
    url: str
    events: tuple[str, ...]
    secret_ref: str
    description: str = ""


@event("webhook_endpoint.updated.v1")
class EndpointUpdated(Event, frozen=True):
    """The endpoint was edited; only changed fields are present."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    description: str | None = None


@event("webhook_endpoint.secret_rotated.v1")
class SecretRotated(Event, frozen=True):
    """The signing secret was replaced; the previous one also signs until `old_expires_at`."""

    secret_ref: str
    old_expires_at: datetime


@event("webhook_endpoint.failing.v1")
class EndpointFailing(Event, frozen=True):
    """A delivery was given up, the `failures`-th in a row without a success."""

    failures: int


@event("webhook_endpoint.recovered.v1")
class EndpointRecovered(Event, frozen=True):
    """A delivery succeeded after others had been given up."""


@event("webhook_endpoint.disabled.v1")
class EndpointDisabled(Event, frozen=True):
    """The endpoint was disabled: nothing is sent to it any more."""

    reason: Reason


@event("webhook_endpoint.enabled.v1")
class EndpointEnabled(Event, frozen=True):
    """The endpoint was enabled: events from now on are sent to it again."""


@event("webhook_endpoint.deleted.v1")
class EndpointDeleted(Event, frozen=True):
    """The endpoint was deleted for good."""


@event("webhook_index.endpoint_added.v1")
class EndpointAdded(Event, frozen=True):
    """An endpoint was added to the seller's index."""

    endpoint_id: UUID


@event("webhook_index.endpoint_removed.v1")
class EndpointRemoved(Event, frozen=True):
    """An endpoint was removed from the seller's index."""

    endpoint_id: UUID


# -- state -----------------------------------------------------------------------------------------


class OldSecret(msgspec.Struct, frozen=True):
    """A replaced secret, and until when it still signs."""

    ref: str
    expires_at: datetime


class WebhookEndpoint(msgspec.Struct, frozen=True):
    """The state of an endpoint. `failures` counts the deliveries given up in a row."""

    seller_id: UUID
    url: str
    events: tuple[str, ...]
    secret_ref: str
    description: str = ""
    old_secret: OldSecret | None = None
    disabled: Reason | None = None
    deleted: bool = False
    failures: int = 0

    @property
    def is_enabled(self) -> bool:
        """Whether events are sent to it."""
        return self.disabled is None and not self.deleted

    def wants(self, name: str) -> bool:
        """Whether events of this wire name are sent to it."""
        return self.is_enabled and any(matches(pattern, name) for pattern in self.events)

    def secret_refs(self, now: datetime) -> tuple[str, ...]:
        """The secrets that sign now, the newest first."""
        old = self.old_secret
        return (
            (self.secret_ref, old.ref)
            if old is not None and now < old.expires_at
            else (self.secret_ref,)
        )


class EndpointIndex(msgspec.Struct, frozen=True):
    """A seller's endpoints, readable as soon as one is created."""

    endpoint_ids: tuple[UUID, ...] = ()


def evolve(state: WebhookEndpoint | None, event: Event) -> WebhookEndpoint | None:  # noqa: PLR0911 - one case a fact
    replace = msgspec.structs.replace
    match state, event:
        case _, EndpointCreated():
            return WebhookEndpoint(**msgspec.structs.asdict(event))
        case WebhookEndpoint(), EndpointUpdated():
            return replace(state, **_said(event))
        case WebhookEndpoint(), SecretRotated(secret_ref=ref, old_expires_at=expires_at):
            return replace(
                state, secret_ref=ref, old_secret=OldSecret(state.secret_ref, expires_at)
            )
        case WebhookEndpoint(), EndpointFailing(failures=failures):
            return replace(state, failures=failures)
        case WebhookEndpoint(), EndpointRecovered():
            return replace(state, failures=0)
        case WebhookEndpoint(), EndpointDisabled(reason=reason):
            return replace(state, disabled=reason)
        case WebhookEndpoint(), EndpointEnabled():
            return replace(state, disabled=None, failures=0)
        case WebhookEndpoint(), EndpointDeleted():
            return replace(state, deleted=True)
    return state


def evolve_index(state: EndpointIndex | None, event: Event) -> EndpointIndex | None:
    known = state.endpoint_ids if state is not None else ()
    match event:
        case EndpointAdded(endpoint_id=endpoint_id):
            return EndpointIndex((*known, endpoint_id))
        case EndpointRemoved(endpoint_id=endpoint_id):
            return EndpointIndex(tuple(each for each in known if each != endpoint_id))
    return state


def index_id(seller_id: UUID) -> UUID:
    """The stream of a seller's index."""
    return derived("webhook.index", seller_id)


# -- rules -----------------------------------------------------------------------------------------


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern covers this event name: `*` covers all, `order.*` those that begin with
    `order.`, a name itself."""
    return pattern in {"*", name} or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def check_patterns(patterns: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """The patterns without duplicates. Raises Invalid("unknown_event_pattern") when one covers none
    of these names, or when there are none or too many."""
    found, known = tuple(dict.fromkeys(patterns)), list(names)
    if not 1 <= len(found) <= MAX_PATTERNS:
        raise Invalid("unknown_event_pattern", f"name 1 to {MAX_PATTERNS} events or patterns")
    for pattern in found:
        if not any(matches(pattern, name) for name in known):
            raise Invalid("unknown_event_pattern", f"{pattern!r} matches no event", known=known)
    return found


# -- decisions -------------------------------------------------------------------------------------


def create(
    index: EndpointIndex | None,
    endpoint_id: UUID,
    *,
    seller_id: UUID,
    url: str,
    events: tuple[str, ...],
    secret_ref: str,
    description: str = "",
) -> tuple[list[Event], list[Event]]:
    """Create an endpoint. Returns its events, and those of its seller's index. The caller has
    checked URL and patterns.

    Raises Conflict("too_many_webhook_endpoints").
    """
    if index is not None and len(index.endpoint_ids) >= MAX_ENDPOINTS:
        raise Conflict(
            "too_many_webhook_endpoints", f"a seller has at most {MAX_ENDPOINTS} endpoints"
        )
    created = EndpointCreated(
        seller_id=seller_id, url=url, events=events, secret_ref=secret_ref, description=description
    )
    return [created], [EndpointAdded(endpoint_id=endpoint_id)]


def update(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    events: tuple[str, ...] | None = None,
    description: str | None = None,
) -> list[Event]:
    """Change the given fields that differ. The caller has checked URL and patterns."""
    wanted = {"url": url, "events": events, "description": description}
    differing = {
        field: value
        for field, value in wanted.items()
        if value is not None and value != getattr(endpoint, field)
    }
    return [msgspec.convert(differing, EndpointUpdated)] if differing else []


def rotate_secret(secret_ref: str, now: datetime) -> list[Event]:
    """Replace the secret. Of the older ones only the last still signs."""
    return [SecretRotated(secret_ref=secret_ref, old_expires_at=now + OLD_SECRET_SIGNS)]


def disable(endpoint: WebhookEndpoint, reason: Reason) -> list[Event]:
    """Stop sending. Keeps the reason of an endpoint already disabled, unless an operator overrides
    it."""
    has_last_word = reason == "operator" and endpoint.disabled != "operator"
    if endpoint.deleted or (endpoint.disabled is not None and not has_last_word):
        return []
    return [EndpointDisabled(reason=reason)]


def enable(endpoint: WebhookEndpoint, *, by_operator: bool = False) -> list[Event]:
    """Resume sending. Idempotent. Raises Forbidden("disabled_by_operator") when an operator
    disabled it, except `by_operator`."""
    if endpoint.disabled is None:
        return []
    if endpoint.disabled == "operator" and not by_operator:
        raise Forbidden(
            "disabled_by_operator", "an operator disabled this endpoint, and has to enable it"
        )
    return [EndpointEnabled()]


def reopen(endpoint: WebhookEndpoint) -> list[Event]:
    """Enable the endpoint when its seller's account is reopened, if it was disabled with the
    account."""
    return (
        enable(endpoint) if endpoint.disabled == "account_closed" and not endpoint.deleted else []
    )


def delete(endpoint_id: UUID) -> tuple[list[Event], list[Event]]:
    """Delete the endpoint for good. Returns its events, and those of its seller's index."""
    return [EndpointDeleted()], [EndpointRemoved(endpoint_id=endpoint_id)]


def note_failure(endpoint: WebhookEndpoint) -> list[Event]:
    """Record that a delivery was given up. Disables the endpoint after FAILURES_IN_A_ROW."""
    if not endpoint.is_enabled:
        return []
    failing = EndpointFailing(failures=endpoint.failures + 1)
    return (
        [failing, EndpointDisabled(reason="failing")]
        if failing.failures >= FAILURES_IN_A_ROW
        else [failing]
    )


def note_success(endpoint: WebhookEndpoint) -> list[Event]:
    """Record that a delivery succeeded, which resets the count of failures."""
    return [EndpointRecovered()] if endpoint.failures and not endpoint.deleted else []


def _said(event: EndpointUpdated) -> dict[str, object]:
    return {
        field: value for field, value in msgspec.structs.asdict(event).items() if value is not None
    }
