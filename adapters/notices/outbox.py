"""Notices that wait for their receiver, in one SQLite file, owned by one process.

Calls are synchronous and made on the event loop: each takes some microseconds, less than handing it
to a thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from msgspec import Struct

from adapters.sqlite_file import SqliteFile


class Webhook(Struct, frozen=True):
    """A notice to deliver: how often it was tried, when it came to be (unix seconds), and in which
    span, if it has one."""

    id: str
    body: bytes
    attempts: int
    created_at: float
    traceparent: str | None


class Outbox:
    """Undelivered webhooks. Times are unix seconds."""

    def __init__(self, path: Path, lock_timeout_seconds: float = 5.0) -> None:
        self._file = SqliteFile(path, lock_timeout_seconds)
        self._db = self._file.db
        self._db.executescript(
            files(__package__).joinpath("outbox.sql").read_text(encoding="utf-8")
        )
        columns = [name for _, name, *_ in self._db.execute("pragma table_info(webhooks)")]
        if "traceparent" not in columns:  # a file of an older release
            self._db.execute("alter table webhooks add column traceparent text")

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def add_webhook(
        self, event_id: str, body: bytes, now: float, due_at: float, traceparent: str | None
    ) -> None:
        self._db.execute(
            "insert into webhooks (id, body, created_at, due_at, traceparent)"
            " values (?, ?, ?, ?, ?)",
            (event_id, body, now, due_at, traceparent),
        )

    def lease_webhooks(self, now: float, until: float, limit: int) -> list[Webhook]:
        """The due webhooks. Each is due again at `until`, in case its sender fails to report."""
        rows = self._db.execute(
            "update webhooks set due_at = ?, attempts = attempts + 1"
            " where id in (select id from webhooks where due_at <= ? order by due_at limit ?)"
            " returning id, body, attempts, created_at, traceparent",
            (until, now, limit),
        ).fetchall()
        return [Webhook(*row) for row in rows]

    def next_webhook_at(self) -> float | None:
        return self._time("select min(due_at) from webhooks where due_at is not null")

    def webhook_delivered(self, event_id: str) -> None:
        self._db.execute("delete from webhooks where id = ?", (event_id,))

    def webhook_failed(self, event_id: str, due_at: float | None) -> None:
        """Try again at that time; None: never."""
        self._db.execute("update webhooks set due_at = ? where id = ?", (due_at, event_id))

    def make_webhooks_due(self, now: float) -> None:
        """Make all waiting webhooks due, for instance after a restart, when their senders are
        gone."""
        self._db.execute("update webhooks set due_at = ? where due_at > ?", (now, now))

    def pending_webhooks(self) -> int:
        """How many still wait for their receiver."""
        row: tuple[int] = self._db.execute(
            "select count(*) from webhooks where due_at is not null"
        ).fetchone()
        return row[0]

    def _time(self, query: str) -> float | None:
        row: tuple[float | None] = self._db.execute(query).fetchone()
        return row[0]
