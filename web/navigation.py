"""The navigation of the console and of the seller's desk."""

from collections.abc import Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """A line of a navigation."""

    path: str
    label: str


Navigation = Sequence[tuple[str, Sequence[Entry]]]
"""Entries by group."""

DESK: Navigation = (
    (
        "Desk",
        (
            Entry("/sell", "Overview"),
            Entry("/sell/shipments", "Shipments"),
            Entry("/sell/stock", "Stock"),
        ),
    ),
    ("Games", (Entry("/sell/games", "Your games"), Entry("/sell/games/new", "List a game"))),
    ("Money", (Entry("/sell/sales", "Sales"), Entry("/sell/account", "Account"))),
    ("Programs", (Entry("/sell/webhooks", "Webhooks"),)),
)

CONSOLE: Navigation = (
    ("Now", (Entry("/console", "Overview"), Entry("/console/alerts", "Alerts"))),
    (
        "The log",
        (
            Entry("/console/log", "Events"),
            Entry("/console/streams", "Streams"),
            Entry("/console/rows", "Rows, step by step"),
            Entry("/console/why", "Why"),
            Entry("/console/orders", "Orders"),
            Entry("/console/catalog", "Catalog"),
        ),
    ),
    (
        "Engine",
        (
            Entry("/console/projections", "Projections"),
            Entry("/console/quarantine", "Quarantine"),
            Entry("/console/amendments", "Amendments"),
            Entry("/console/dead-letters", "Dead letters"),
            Entry("/console/tasks", "Tasks"),
        ),
    ),
    (
        "Business",
        (
            Entry("/console/ledger", "Ledger"),
            Entry("/console/people", "People"),
        ),
    ),
    (
        "Proof",
        (
            Entry("/console/proofs", "Verify, checkpoints"),
            Entry("/console/bundles", "Evidence bundles"),
            Entry("/console/differences", "Differences"),
            Entry("/console/self-audit", "Self-audit"),
        ),
    ),
    (
        "The shop itself",
        (
            Entry("/console/acts", "Operators' acts"),
            Entry("/console/settings", "Settings"),
        ),
    ),
)
"""Pages of one thing, such as an event, have no entry: others lead to them."""


def entry_of(path: str, navigation: Navigation) -> str:
    """The path of the entry to which a page belongs; empty, if to none. The first entry is for its
    own page alone, as all others lie below it."""
    root, *others = [entry.path for _, entries in navigation for entry in entries]
    above = [each for each in others if f"{path}/".startswith(f"{each}/")]
    return max(above, key=len, default=root if path == root else "")
