"""Figures that lead to why they are what they are."""

from collections.abc import Collection
from typing import NamedTuple

from web.api_client import Listed
from web.console.answers import ReadModel
from web.values import CUT
from web.visit import Visit

_ROWS = {
    "alert": ("alerts", "{0}"),
    "audit": ("findings", "{0}"),
    "cart": ("carts", "{0}"),
    "game": ("games", "{0}"),
    "inventory": ("stock", "{0}/{0}"),
    "notification": ("notifications", "{0}"),
    "order": ("orders", "{0}"),
    "payment": ("payments", "{0}"),
    "receipt": ("receipts", "{0}"),
    "shipment": ("shipments", "{0}"),
    "transaction": ("transactions", "{0}"),
    "user": ("users", "{0}"),
    "wallet": ("wallets", "{0}"),
    "webhook": ("webhook_deliveries", "{0}"),
    "webhook_endpoint": ("webhook_endpoints", "{0}"),
}
"""By kind of stream: the read model that has a row of each such stream, and the row's key."""


class Figures(NamedTuple):
    """A read model's row as of a position. `fields` are those that can be explained; None: all."""

    model: str
    key: str
    as_of: int
    fields: Collection[str] | None = None

    def explain(self, path: str) -> bool:
        """Whether the value at a path inside the row can be explained."""
        return path not in {"", CUT} and (self.fields is None or path in self.fields)


async def figures_of_stream(
    visit: Visit, kind: str, stream_id: str, position: int
) -> Figures | None:
    """The row that stores a stream's state, as of a position; None if no row does.

    State and row have fields of the same names, whose content may differ.
    """
    if kind not in _ROWS:
        return None
    name, key = _ROWS[kind]
    models = await visit.api.get("/api/v1/audit/models", Listed[ReadModel])
    fields = next((each.fields for each in models.items if each.model == name), [])
    return Figures(name, key.format(stream_id), position, frozenset(fields))
