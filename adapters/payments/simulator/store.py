"""The provider's memory: one SQLite file, owned by one process.

Calls are synchronous and made on the event loop: each takes some microseconds, less than handing it
to a thread.
"""

from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from msgspec import Struct, json

from adapters.notices.outbox import Outbox
from adapters.payments.simulator.intents import PaymentIntent, Refund

_decode_intent = json.Decoder(PaymentIntent).decode
_decode_refund = json.Decoder(Refund).decode


PAGE = 100
PAGE_BYTES = 512 * 1024
"""The most intents or refunds in a page of a list, and their size in bytes."""


class Answer(Struct, frozen=True):
    """An HTTP status and body, as they went out or will."""

    status: int
    body: bytes


class ProviderStore(Outbox):
    """Intents, refunds, answers by idempotency key, and undelivered webhooks. Times are unix
    seconds."""

    def __init__(self, path: Path, lock_timeout_seconds: float = 5.0) -> None:
        super().__init__(path, lock_timeout_seconds)
        self._db.executescript(
            files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        )

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
