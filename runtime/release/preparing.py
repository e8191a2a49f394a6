"""Build the read models of a new release while the older one is still running."""

import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import psycopg

from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from projections.engine.runner import Registered, Runner
from runtime.wiring.codec import codec

LOOK_SECONDS = 0.2

NEAR = 1_000
"""How many positions behind a prepared read model may be: the log does not stand still."""


class Prepared(msgspec.Struct, frozen=True):
    """A read model that was built up to `position`, of a log that ended at `head`."""

    projection: str
    version: int
    position: int
    head: int


def prepare(
    url: str, models: Sequence[Registered], progress: Callable[[int, int], None]
) -> list[Prepared]:
    """Build the read models that exist only in another version, or not at all, without letting
    queries read them.

    Returns once all of them have everything that was in the log at the start, and are almost at its
    head. `progress` is called with the number of positions done and to do.
    """
    with connect(url, "ludoteca prepare") as conn:
        new = [model for model in models if not _is_read(conn, model)]
        if not new:
            return []
        wanted = checkpoints.head(conn)
        runner = Runner(url, codec(), new, activate=False)
        thread = threading.Thread(target=runner.run, name="preparing")
        thread.start()
        try:
            while True:
                done = _positions(conn, new)
                progress(
                    sum(min(each.position, each.head) for each in done),
                    sum(each.head for each in done),
                )
                near = [each for each in done if each.position >= max(wanted, each.head - NEAR)]
                if len(near) == len(new):
                    return done
                if not thread.is_alive():
                    raise RuntimeError("the projector ended: the messages above say why")
                time.sleep(LOOK_SECONDS)
        finally:
            runner.stop()
            thread.join()


def _is_read(conn: psycopg.Connection, model: Registered) -> bool:
    key = (model.projection.name, model.projection.version)
    return any(
        row.active
        for row in checkpoints.subscriptions(conn)
        if (row.projection, row.version) == key
    )


def _positions(conn: psycopg.Connection, models: Sequence[Registered]) -> list[Prepared]:
    keys = {(model.projection.name, model.projection.version) for model in models}
    head = checkpoints.head(conn)
    return [
        Prepared(row.projection, row.version, row.position, head)
        for row in checkpoints.subscriptions(conn)
        if (row.projection, row.version) in keys and not row.building
    ]
