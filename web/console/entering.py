"""Who may enter the console."""

from web.routing import Router

READERS = frozenset({"AUDITOR", "ADMIN"})
"""The types of account that see the console. What each of them may do is the API's decision."""


def console_router() -> Router:
    """A router of pages that only auditors and administrators see."""
    return Router(admits=READERS, refusal="console/refused.html")
