"""Who may enter the console."""

from web.routing import Router

READERS = frozenset({"AUDITOR", "ADMIN"})
"""The types of account that see the console. What each of them may do is the API's decision."""


def console_router() -> Router:
    """A table of pages of the console."""
    return Router(admits=READERS, refusal="console/refused.html")
