"""Rebuilds that stand still, for tests of what is shown while one goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

from eventstore.database.postgres import connect

_SUBSCRIPTIONS = """
INSERT INTO consumers.feeds (feed, projection, version, storage)
SELECT feed || '.r' || number, projection, version, storage || '_r' || number
FROM consumers.feeds, generate_series(1, 9) AS number
WHERE projection = %s AND feed = projection || '.' || version
ON CONFLICT DO NOTHING
"""


@contextmanager
def rebuilds_standing(url: str, projection: str) -> Iterator[None]:
    """No rebuild of this projection gets further than its new subscription meanwhile: those whose
    turn it is are being added by another transaction, which ends with the block, without them.
    Projectors are not held up."""
    with connect(url, "a test") as conn, conn.transaction(force_rollback=True):
        conn.execute(_SUBSCRIPTIONS, (projection,))
        yield
