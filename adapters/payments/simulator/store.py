"""The provider's memory: one SQLite file, owned by one process.

Calls are synchronous and made on the event loop: each takes some microseconds, less than handing it
to a thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from msgspec import Struct, json

from adapters.payments.simulator.intents import PaymentIntent, Refund
from adapters.sqlite_file import SqliteFile

_decode_intent = json.Decoder(PaymentIntent).decode
_decode_refund = json.Decoder(Refund).decode


PAGE = 100
PAGE_BYTES = 512 * 1024
"""The most intents or refunds in a page of a list, and their size in bytes."""


class Answer(Struct, frozen=True):
    """An HTTP status and body, as they went out or will."""

    status: int
    body: bytes


class Webhook(Struct, frozen=True):
    """A notice to deliver: how often it was tried, and when it came to be (unix seconds)."""

    id: str
    body: bytes
    attempts: int
    created_at: float


class ProviderStore:
    """Intents, refunds, answers by idempotency key, and undelivered webhooks. Times are unix
    seconds."""

    def __init__(self, path: Path, lock_timeout_seconds: float = 5.0) -> None:
        self._file = SqliteFile(path, lock_timeout_seconds)
        self._db = self._file.db
        self._db.executescript(
            files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        )

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

    # -- intents -----------------------------------------------------------------------------------

    def save(self, intent: PaymentIntent, settles_at: float | None = None) -> None:
        """Save the intent in its current state, to be settled at that time if one is given."""
        self._db.execute(
            "insert into intents (id, payment_id, document, settles_at) values (?, ?, ?, ?) on"
            " conflict (id) do update set document = excluded.document, settles_at ="
            " excluded.settles_at",
            (intent.id, intent.metadata.get("payment_id"), json.encode(intent), settles_at),
        )

    def intent(self, ref: str) -> PaymentIntent | None:
        rows = self._db.execute("select document from intents where id = ?", (ref,)).fetchall()
        return _decode_intent(rows[0][0]) if rows else None

    def intents_of(self, payment_id: str) -> list[PaymentIntent]:
        """The intents made for a payment, newest first."""
        query = "select document from intents where payment_id = ? order by rowid desc limit 100"
        return [_decode_intent(document) for (document,) in self._db.execute(query, (payment_id,))]

    def intents_since(self, since: int, after: str | None) -> list[PaymentIntent]:
        """A page of the intents made since a time, newest first, after the intent with the ref
        `after`."""
        found = map(_decode_intent, self._page("intents", after))
        return list(takewhile(lambda intent: intent.created >= since, found))

    def intents_to_settle(self, now: float) -> list[PaymentIntent]:
        query = "select document from intents where settles_at <= ? order by settles_at limit 1000"
        return [_decode_intent(document) for (document,) in self._db.execute(query, (now,))]

    def next_settlement_at(self) -> float | None:
        return self._time(
            "select min(due_at) from (select settles_at as due_at from intents where settles_at is"
            " not null union all select ends_at from refunds where ends_at is not null)"
        )

    # -- refunds -----------------------------------------------------------------------------------

    def save_refund(self, refund: Refund, ends_at: float | None = None) -> None:
        """Save the refund in its current state, to end at that time if one is given."""
        self._db.execute(
            "insert into refunds (id, document, ends_at) values (?, ?, ?) on conflict (id) do"
            " update set document = excluded.document, ends_at = excluded.ends_at",
            (refund.id, json.encode(refund), ends_at),
        )

    def refund(self, ref: str) -> Refund | None:
        rows = self._db.execute("select document from refunds where id = ?", (ref,)).fetchall()
        return _decode_refund(rows[0][0]) if rows else None

    def refunds_since(self, since: int, after: str | None) -> list[Refund]:
        """As `intents_since`."""
        found = map(_decode_refund, self._page("refunds", after))
        return list(takewhile(lambda refund: refund.created >= since, found))

    def refunds_to_end(self, now: float) -> list[Refund]:
        query = "select document from refunds where ends_at <= ? order by ends_at limit 1000"
        return [_decode_refund(document) for (document,) in self._db.execute(query, (now,))]

    # -- answers -----------------------------------------------------------------------------------

    def answer(self, idempotency_key: str) -> tuple[str, Answer] | None:
        """The fingerprint of the request that first used the key, and its answer."""
        query = "select fingerprint, status, body from answers where idempotency_key = ?"
        rows = self._db.execute(query, (idempotency_key,)).fetchall()
        return (rows[0][0], Answer(rows[0][1], rows[0][2])) if rows else None

    def keep_answer(self, idempotency_key: str, fingerprint: str, answer: Answer) -> None:
        row = (idempotency_key, fingerprint, answer.status, answer.body)
        self._db.execute(
            "insert into answers (idempotency_key, fingerprint, status, body) values (?, ?, ?, ?)",
            row,
        )

    # -- webhooks ----------------------------------------------------------------------------------

    def add_webhook(self, event_id: str, body: bytes, now: float, due_at: float) -> None:
        self._db.execute(
            "insert into webhooks (id, body, created_at, due_at) values (?, ?, ?, ?)",
            (event_id, body, now, due_at),
        )

    def lease_webhooks(self, now: float, until: float, limit: int) -> list[Webhook]:
        """The due webhooks. Each is due again at `until`, in case its sender fails to report."""
        rows = self._db.execute(
            "update webhooks set due_at = ?, attempts = attempts + 1"
            " where id in (select id from webhooks where due_at <= ? order by due_at limit ?)"
            " returning id, body, attempts, created_at",
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

    def _page(self, table: str, after: str | None) -> list[bytes]:
        """Documents in the order in which they came, the last first."""
        query = (
            f"select document from {table} where ? is null or rowid < (select rowid from {table}"
            f" where id = ?) order by rowid desc limit {PAGE}"
        )
        found, size = list[bytes](), 0
        for (document,) in self._db.execute(query, (after, after)):
            size += len(document)
            if found and size > PAGE_BYTES:
                break
            found.append(document)
        return found

    def _time(self, query: str) -> float | None:
        row: tuple[float | None] = self._db.execute(query).fetchone()
        return row[0]
