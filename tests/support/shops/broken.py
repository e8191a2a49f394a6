"""A shop that is broken by hand, and mended: as a superuser, or by events that no rule allowed."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import psycopg

from domain.ids import library_id, stock_id
from domain.inventory import ReservationReleased, Reserved
from domain.ledger import Entry, TransactionPosted, move, transaction_id
from domain.library import LibraryGameAdded, LibraryGameRemoved
from domain.times import LATEST
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from kit.clock import SYSTEM_CLOCK
from runtime.wiring.codec import codec
from tests.support.processes.instance import Instance, Person, eventually
from tests.support.shops.customers import ADDRESS

BROKEN: set[tuple[str, str]] = set()
"""What was broken for good in this process's shop: invariants and subjects."""

CARD = {"type": "card", "token": "pm_card_visa"}


class Things(NamedTuple):
    """What was sold: to whom, and by which orders and payments."""

    buyer: Person
    wallet: str
    order: str
    payment: str
    game: str
    board_game: str


class Shop(NamedTuple):
    """A running shop, its database, and what was sold there."""

    instance: Instance
    database: str
    things: Things

    def findings(self, status: str = "OPEN") -> list[dict[str, Any]]:
        query = {"status": status, "limit": "200"}
        answer = self.instance.admin().get("/api/v1/audit/findings", params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    def subjects(self, invariant: str) -> list[str]:
        return [each["subject"] for each in self.findings() if each["invariant"] == invariant]

    def table(self, model: str) -> str:
        found = self.run(
            "SELECT storage FROM consumers.feeds WHERE projection = %s AND active", model
        )
        return f'read."{found[0][0]}"'

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as a superuser whom no trigger stops."""
        with psycopg.connect(self.database, autocommit=True) as conn:
            conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
            cursor = conn.execute(statement.encode(), values)
            conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")
            return cursor.fetchall() if cursor.description else []

    def happened(self, stream_id: UUID, *events: msgspec.Struct) -> None:
        """Append events that no rule of the domain has allowed."""
        asyncio.run(self._append(stream_id, events))

    async def _append(self, stream_id: UUID, events: Sequence[msgspec.Struct]) -> None:
        async with PostgresLog.open(self.database, codec(), pool_size=1) as log:
            (version,) = await log.versions([stream_id])
            await log.append([StreamAppend(stream_id, version, list(events))])


def sold(instance: Instance) -> Things:
    """Sell by card and from a wallet, refund a part and a whole, fill a cart, and check one out
    without paying it."""
    buyer, other, admin = instance.register(), instance.register(), instance.admin()
    seller = instance.register(account_type="SELLER")
    listing = {
        "sku": "GO",
        "title": "Go",
        "kind": "DIGITAL",
        "status": "ACTIVE",
        "prices": [{"region": "*", "amount_cents": 1001, "currency": "USD"}],
    }
    game = seller.http.post("/api/v1/games", json=listing).json()["id"]
    wallet = buyer.http.post("/api/v1/wallets", json={"currency": "USD"}).json()["id"]
    deposit = {
        "type": "deposit",
        "amount_cents": 5000,
        "currency": "USD",
        "to_wallet_id": wallet,
        "payment_method": CARD,
    }
    assert buyer.http.post("/api/v1/transactions", json=deposit).status_code < 300
    bought = buyer.buy(game).json()
    order, payment = bought["order_id"], bought["payment_id"]
    by_wallet = {"game_id": instance.game(1500), "payment_method": {"type": "wallet"}}
    eventually(
        lambda: buyer.http.get(f"/api/v1/wallets/{wallet}").json()["balance_cents"],
        lambda cents: cents == 5000,
    )
    returned = buyer.http.post("/api/v1/orders", json=by_wallet).json()["order_id"]
    refunded = other.buy(game).json()["order_id"]
    eventually(lambda: buyer.completed(order) and other.completed(refunded))
    for each, body in (
        (refunded, {"amount_cents": 334, "reason": "late"}),
        (returned, {"reason": "x"}),
    ):
        answer = admin.post(f"/api/v1/orders/{each}/refund", json=body)
        assert answer.status_code < 300, answer.text
    board_game = instance.stocked(20)
    for person in (buyer, other):
        line = {"product_id": board_game, "quantity": 2}
        assert person.http.post("/api/v1/cart/items", json=line).status_code < 300
    unpaid = other.http.post("/api/v1/cart/checkout", json={"shipping_address": ADDRESS})
    assert unpaid.status_code < 300, unpaid.text
    return Things(buyer, wallet, order, payment, game, board_game)


# -- breaking --------------------------------------------------------------------------------------


@contextmanager
def changed(shop: Shop, model: str, change: str, where: str, *values: object) -> Iterator[None]:
    """Change a row of a read model by hand, and put it back."""
    table = shop.table(model)
    shop.run(f"CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM {table} WHERE {where}", *values)
    shop.run(f"{change.format(table=table)} WHERE {where}", *values)
    yield
    shop.run(f"DELETE FROM {table} WHERE {where}", *values)
    shop.run(f"INSERT INTO {table} SELECT * FROM kept")
    shop.run("DROP TABLE kept")


@contextmanager
def wallet_has_more(shop: Shop) -> Iterator[str]:
    with changed(
        shop, "wallets", "UPDATE {table} SET balance_cents = balance_cents + 7", "wallet_id = %s",
        shop.things.wallet,
    ):  # fmt: skip
        yield shop.things.wallet


@contextmanager
def account_has_more(shop: Shop) -> Iterator[str]:
    change = "UPDATE {table} SET credits_cents = credits_cents + 7"
    with changed(shop, "ledger_accounts", change, "account_id = 'PLATFORM_REVENUE'"):
        yield "USD"


@contextmanager
def posting_does_not_balance(shop: Shop) -> Iterator[str]:
    """By a raw event, which nothing takes back."""
    cause = uuid4()
    entries = (
        Entry("ADJUSTMENTS", "debit", 5, "EUR"),
        Entry("PLATFORM_REVENUE", "credit", 4, "EUR"),
    )
    shop.happened(transaction_id(cause), TransactionPosted(cause, entries))
    BROKEN.update(
        [("ledger_transaction_balances", str(transaction_id(cause))), ("trial_balance", "EUR")]
    )
    yield str(transaction_id(cause))


@contextmanager
def stock_counts_wrong(shop: Shop) -> Iterator[str]:
    """A hold's row is changed: those of the item have a constraint against it."""
    table, stock = shop.table("stock"), stock_id(UUID(shop.things.board_game))
    held = (
        f"SELECT hold_id FROM {table} WHERE stock_id = %s AND hold_id <> stock_id AND reserved > 0"
    )
    ((hold,),) = eventually(lambda: shop.run(held, stock), lambda found: len(found) == 1)
    change = "UPDATE {table} SET reserved = reserved - 1, total = total - 1"
    with changed(shop, "stock", change, "hold_id = %s", hold):
        yield str(stock)


@contextmanager
def hold_without_holder(shop: Shop) -> Iterator[str]:
    """A hold for a cart of ours that has no such line, by a raw event."""
    stock, hold = stock_id(UUID(shop.things.board_game)), uuid4()
    cart = UUID(shop.things.buyer.http.get("/api/v1/cart").json()["id"])
    shop.happened(stock, Reserved(hold, cart, 1, LATEST))
    yield f"{stock} {hold}"
    shop.happened(stock, ReservationReleased(hold, "by hand"))


@contextmanager
def order_is_unpaid(shop: Shop) -> Iterator[str]:
    """A captured payment whose order shows that it waits for it."""
    change = "UPDATE {table} SET status = 'PENDING_PAYMENT'"
    with changed(shop, "orders", change, "order_id = %s", shop.things.order):
        yield shop.things.payment


@contextmanager
def posted_twice(shop: Shop) -> Iterator[str]:
    """A second posting of what was posted already, by a raw event that nothing takes back."""
    found = shop.run(
        "SELECT event_id FROM log.events WHERE stream_id = %s AND name LIKE 'payment.trans%%'",
        shop.things.payment,
    )
    twice = uuid4()
    entries = tuple(move("ADJUSTMENTS", "PLATFORM_REVENUE", 100, "USD"))
    shop.happened(twice, TransactionPosted(found[0][0], entries))
    BROKEN.add(("payment_is_posted_once", str(twice)))
    yield str(twice)


@contextmanager
def game_is_not_granted(shop: Shop) -> Iterator[str]:
    with changed(shop, "library", "DELETE FROM {table}", "order_id = %s", shop.things.order):
        yield f"{shop.things.order} {shop.things.game}"


@contextmanager
def game_was_not_bought(shop: Shop) -> Iterator[str]:
    """A game is granted through an order that is not there, by a raw event."""
    shelf, game, order = library_id(UUID(shop.things.buyer.id)), uuid4(), uuid4()
    shop.happened(
        shelf,
        LibraryGameAdded(UUID(shop.things.buyer.id), game, order, "Free", SYSTEM_CLOCK.now()),
    )
    yield f"{shelf} {game}"
    shop.happened(shelf, LibraryGameRemoved(game, order, "by hand"))


@contextmanager
def receipt_is_missing(shop: Shop) -> Iterator[str]:
    seller = shop.run(
        f"SELECT lines -> 0 ->> 'seller_id' FROM {shop.table('orders')} WHERE order_id = %s",
        shop.things.order,
    )
    with changed(shop, "receipts", "DELETE FROM {table}", "order_id = %s", shop.things.order):
        yield f"{shop.things.order} {seller[0][0]}"


@contextmanager
def row_is_lost(shop: Shop) -> Iterator[str]:
    with changed(shop, "games", "DELETE FROM {table}", "game_id = %s", shop.things.game):
        yield f"games {shop.things.game}"


@contextmanager
def row_is_invented(shop: Shop) -> Iterator[str]:
    table, invented = shop.table("wallets"), str(uuid4())
    shop.run(f"CREATE TABLE invented AS SELECT * FROM {table} LIMIT 1")
    shop.run("UPDATE invented SET wallet_id = %s, balance_cents = 0", invented)
    shop.run(f"INSERT INTO {table} SELECT * FROM invented")
    yield f"wallets {invented}"
    shop.run(f"DELETE FROM {table} WHERE wallet_id = %s", invented)


@contextmanager
def event_is_removed(shop: Shop) -> Iterator[str]:
    """Of a stream that nothing else in this module needs."""
    position = shop.run("SELECT min(position) + 1 FROM log.events")[0][0]
    shop.run("CREATE TABLE removed AS SELECT * FROM log.events WHERE position = %s", position)
    shop.run("DELETE FROM log.events WHERE position = %s", position)
    yield f"position {position}"
    shop.run("INSERT INTO log.events SELECT * FROM removed")


@contextmanager
def event_is_changed(shop: Shop) -> Iterator[str]:
    position = shop.run("SELECT min(position) FROM log.events WHERE name LIKE 'order.%%'")[0][0]
    before = shop.run("SELECT actor FROM log.events WHERE position = %s", position)[0][0]
    shop.run("UPDATE log.events SET actor = 'somebody' WHERE position = %s", position)
    yield f"position {position}"
    shop.run("UPDATE log.events SET actor = %s WHERE position = %s", before, position)


@contextmanager
def checkpoint_does_not_fit(shop: Shop) -> Iterator[str]:
    """Signed of another history than the log has."""
    ((number,),) = shop.run(
        "INSERT INTO log.tree_heads (size, root, hash, note)"
        " VALUES (2, sha256('other'), sha256('other'), '') RETURNING number"
    )
    yield "checkpoint 2"
    shop.run("DELETE FROM log.tree_heads WHERE number = %s", number)


@contextmanager
def deadline_is_missed(shop: Shop) -> Iterator[str]:
    """A deadline of something that is not there: no command meets it."""
    table, subject = shop.table("deadlines"), str(uuid4())
    columns = "subject_id, kind, stream_id, due_at, version"
    shop.run(
        f"INSERT INTO {table} ({columns}) VALUES (%s, 'unheard of', %s, now() - interval '1h', 1)",
        subject,
        subject,
    )
    yield f"deadline {subject} unheard of"
    shop.run(f"DELETE FROM {table} WHERE subject_id = %s", subject)


@contextmanager
def job_is_left(shop: Shop) -> Iterator[str]:
    job = str(uuid4())
    shop.run(
        "INSERT INTO queue.jobs (queue, id, kind, body, due_at, set_at) VALUES ('of nobody', %s,"
        " 'x', '{}', now() - interval '1h', now() - interval '2h')",
        job,
    )
    yield f"job of nobody {job}"
    shop.run("DELETE FROM queue.jobs WHERE id = %s", job)


@contextmanager
def forgotten_is_not_erased(shop: Shop) -> Iterator[str]:
    """Somebody whom the worker cannot erase, as no read model has come to the position yet."""
    person = str(uuid4())
    shop.run(
        "INSERT INTO private.erasures (person_id, position, destroyed_at)"
        " VALUES (%s, 1000000, now() - interval '25h')",
        person,
    )
    yield f"forgotten {person}"
    shop.run("DELETE FROM private.erasures WHERE person_id = %s", person)


@contextmanager
def reactor_stands_still(shop: Shop) -> Iterator[str]:
    """A consumer that this program does not run, far behind."""
    shop.run(
        "INSERT INTO consumers.feeds (feed, projection, version, active)"
        " VALUES ('gone.1', 'gone', 1, true)"
    )
    shop.run(
        "INSERT INTO consumers.checkpoints (feed, position, event_id, updated_at)"
        " SELECT 'gone.1', 1, event_id, now() - interval '1h' FROM log.events WHERE position = 1"
    )
    yield "consumer gone.1"
    shop.run("DELETE FROM consumers.feeds WHERE feed = 'gone.1'")


Break = Callable[[Shop], Any]

BREAKS: list[tuple[str, Break]] = [
    ("wallet_equals_account", wallet_has_more),
    ("trial_balance", account_has_more),
    ("stock_adds_up", stock_counts_wrong),
    ("hold_has_holder", hold_without_holder),
    ("capture_has_order_or_refund", order_is_unpaid),
    ("paid_game_is_granted", game_is_not_granted),
    ("owned_game_was_bought", game_was_not_bought),
    ("sale_has_receipt", receipt_is_missing),
    ("rows_equal_replay", row_is_lost),
    ("rows_equal_replay", row_is_invented),
    ("log_is_chained", event_is_removed),
    ("log_is_chained", event_is_changed),
    ("log_is_what_was_signed", checkpoint_does_not_fit),
    ("nothing_due_is_undone", deadline_is_missed),
    ("nothing_due_is_undone", job_is_left),
    ("nothing_due_is_undone", forgotten_is_not_erased),
    ("nothing_due_is_undone", reactor_stands_still),
    ("ledger_transaction_balances", posting_does_not_balance),
    ("payment_is_posted_once", posted_twice),
]

FOR_GOOD = {posting_does_not_balance, posted_twice}
