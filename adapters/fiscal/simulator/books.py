"""The operator's books, in one SQLite file. A number is used once, and an order is reported once
per seller.

Receipts may come in any order, since the shop reports them concurrently. A gap is a number below
the highest that has not come yet, and `gaps` lists it until it has.
"""

import time
from importlib.resources import files
from pathlib import Path
from uuid import UUID, uuid4

from msgspec import Struct

from adapters.sqlite_file import SqliteFile

GAPS_SHOWN = 100
"""The most gaps of a book that are listed."""

PAGE = 100
"""The most receipts that are listed at once."""


class Sale(Struct, frozen=True):
    """A reported sale."""

    seller_id: UUID
    year: int
    number: int
    order_id: UUID
    amount_cents: int
    currency: str


class Receipt(Struct, frozen=True):
    """A sale reported at `issued_at` (unix seconds)."""

    reference: str
    sale: Sale
    issued_at: int


class Book(Struct, frozen=True):
    """A seller's year: the number of receipts, the highest number, and the missing numbers below
    it."""

    issued: int
    last_number: int
    gaps: list[int]


class Refusal(Exception):
    """The operator's refusal, with a code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


_COLUMNS = "reference, issued_at, seller_id, year, number, order_id, amount_cents, currency"


class Books:
    """All books. Calls take some microseconds, and run on the event loop."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path)
        self._db = self._file.db
        self._db.executescript(
            files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        )

    def close(self) -> None:
        self._file.close()

    def issue(self, sale: Sale, idempotency_key: str) -> Receipt:
        """Enter a sale. A repeat under the same key returns the first receipt.

        Raises Refusal: idempotency_key_reused, number_used, order_reported.
        """
        known = self._find("idempotency_key = ?", idempotency_key)
        if known is not None:
            if known.sale != sale:
                raise Refusal("idempotency_key_reused", "the key was used for another receipt")
            return known
        if self._find(
            "seller_id = ? and year = ? and number = ?", str(sale.seller_id), sale.year, sale.number
        ):
            raise Refusal(
                "number_used", f"number {sale.number} of {sale.year} is another receipt's"
            )
        if self._find("seller_id = ? and order_id = ?", str(sale.seller_id), str(sale.order_id)):
            raise Refusal(
                "order_reported", "this seller has reported this order under another number"
            )
        receipt = Receipt(f"fr_{uuid4().hex}", sale, int(time.time()))
        values = (
            str(sale.seller_id),
            sale.year,
            sale.number,
            str(sale.order_id),
            sale.amount_cents,
            sale.currency,
        )
        self._db.execute(
            f"insert into receipts (idempotency_key, {_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?,"
            " ?, ?)",
            (idempotency_key, receipt.reference, receipt.issued_at, *values),
        )
        return receipt

    def receipt(self, reference: str) -> Receipt | None:
        return self._find("reference = ?", reference)

    def book(self, seller_id: UUID, year: int) -> Book:
        """A seller's book of a year; empty when nothing was reported."""
        of_book = (str(seller_id), year)
        (issued, last), *_ = self._db.execute(
            "select count(*), coalesce(max(number), 0) from receipts where seller_id = ? and"
            " year = ?",
            of_book,
        ).fetchall()
        gaps: list[int] = []
        query = "select number from receipts where seller_id = ? and year = ? order by number"
        expected = 1
        for (number,) in self._db.execute(query, of_book) if issued < last else ():
            gaps += range(expected, min(number, expected + GAPS_SHOWN))
            expected = number + 1
        return Book(issued, last, gaps[:GAPS_SHOWN])

    def of_order(self, seller_id: UUID, order_id: UUID) -> Receipt | None:
        """The receipt that a seller has reported for an order."""
        return self._find("seller_id = ? and order_id = ?", str(seller_id), str(order_id))

    def from_number(self, seller_id: UUID, year: int, number: int) -> list[Receipt]:
        """The first receipts of a book with this number or a higher one."""
        where = "seller_id = ? and year = ? and number >= ? order by number"
        return self._list(where, str(seller_id), year, number)

    def since(self, issued_since: int, after: str | None) -> list[Receipt]:
        """The next receipts of all books since a time (unix seconds), in the order of issue."""
        where = (
            "issued_at >= ? and rowid > coalesce((select rowid from receipts where reference = ?),"
            " 0) order by rowid"
        )
        return self._list(where, issued_since, after)

    def _find(self, where: str, *values: object) -> Receipt | None:
        return next(iter(self._list(where, *values)), None)

    def _list(self, where: str, *values: object) -> list[Receipt]:
        query = f"select {_COLUMNS} from receipts where {where} limit {PAGE}"
        return [_receipt(*row) for row in self._db.execute(query, values)]


def _receipt(
    reference: str,
    issued_at: int,
    seller_id: str,
    year: int,
    number: int,
    order_id: str,
    amount_cents: int,
    currency: str,
) -> Receipt:
    return Receipt(
        reference,
        Sale(UUID(seller_id), year, number, UUID(order_id), amount_cents, currency),
        issued_at,
    )
