"""Asking for quarantined streams to be tried again, as an operator does."""

from collections.abc import Sequence
from uuid import UUID

import psycopg

from eventstore.consumers.checkpoints import wake

_REQUEST_RETRY = """
UPDATE consumers.quarantine SET retry = true WHERE %(ids)s::uuid[] IS NULL OR id = ANY (%(ids)s)
"""


def request_retry(conn: psycopg.Connection, ids: Sequence[UUID] | None = None) -> int:
    """Ask the leaders to retry these streams, or all. Returns their number."""
    wanted = None if ids is None else list(ids)
    found = conn.execute(_REQUEST_RETRY, {"ids": wanted}).rowcount
    wake(conn)
    return found
