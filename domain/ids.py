"""Derived ids: the same thing always has the same id (UUIDv5, RFC 9562)."""

from uuid import UUID, uuid5

NAMESPACE = UUID("6f1d6c1e-8c55-5b0a-9a3e-0f6a1c0de001")

PLATFORM_ID = uuid5(NAMESPACE, "platform")
"""The platform itself, as a seller."""


def derived(kind: str, *parts: object) -> UUID:
    """The id of the `kind` of thing that these parts identify, for instance `derived("library",
    user_id)`."""
    return uuid5(NAMESPACE, "\x1f".join([kind, *map(str, parts)]))


def claim_id(kind: str, *parts: object) -> UUID:
    """The stream of the claim on a unique thing (an e-mail digest, a seller's SKU, …)."""
    return derived("claim." + kind, *parts)


def library_id(user_id: UUID) -> UUID:
    """The stream of a person's library."""
    return derived("library", user_id)


def stock_id(game_id: UUID) -> UUID:
    """The stream of a game's stock."""
    return derived("stock", game_id)


def notice_id(about_id: UUID, provider_event_id: str | None = None) -> UUID:
    """The stream of a kept notice about a payment or a shipment. A shipment has one: only the
    notice that delivers it is kept."""
    return derived("notice", about_id, provider_event_id or "")
