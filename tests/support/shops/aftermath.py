"""What must hold of a shop after customers used it while its processes failed: everything was done,
and nothing twice."""

import json
from collections import Counter
from typing import Any

import httpx
import psycopg

from eventstore.consumers import checkpoints
from tests.support.processes.instance import Instance, eventually
from tests.support.shops.customers import INITIAL_CENTS, Customers

PATIENCE = 150.0


class Aftermath:
    """A shop at rest: all its events, and what its customers were told."""

    def __init__(self, shop: Instance, customers: Customers) -> None:
        """Waits until nothing is under way."""
        self.shop = shop
        self.customers = customers
        self.done = customers.done
        eventually(self._pending, lambda left: not any(left.values()), patience=PATIENCE)
        eventually(self._lags, lambda lags: not any(lags.values()), patience=PATIENCE)
        self.events = shop.events()

    def check(self) -> None:
        """Check everything."""
        self.check_orders()
        self.check_payments()
        self.check_libraries()
        self.check_wallets()
        self.check_notifications()
        self.check_receipts()
        self.check_read_models()

    def of(self, name: str) -> list[dict[str, Any]]:
        """The payloads of the events with this name."""
        return [event["payload"] for event in self.events if event["name"] == name]

    def streams(self, name: str) -> Counter[str]:
        """How many events with this name each stream has."""
        return Counter(event["stream_id"] for event in self.events if event["name"] == name)

    def check_orders(self) -> None:
        """Each order was placed once, and paid."""
        once = Counter(dict.fromkeys(self.done.orders, 1))
        assert self.streams("order.created.v1") == once
        assert self.streams("order.confirmed.v1") == once
        assert self.of("order.cancelled.v1") == []
        assert self.streams("order.refunded.v1") == Counter(dict.fromkeys(self.done.refunds, 1))
        left = 1_000 - sum(order.method == "cart" for order in self.done.orders.values())
        assert self.shop.stock(self.customers.parcel) == (left, left, 0, 0)

    def check_payments(self) -> None:
        """Each card was charged once, here and at the provider, and refunded once."""
        captured = self.streams("payment.transaction.completed.v1")
        captured += self.streams("payment.processed.v1")
        assert set(captured.values()) <= {1}
        address = f"http://127.0.0.1:{self.shop.environment['LUDOTECA_PROVIDER_PORT']}"
        refunded = self.streams("payment.refunded.v1")
        assert len(refunded) == len(self.done.refunds)
        by_wallet = sum(order.method == "wallet" for order in self.done.orders.values())
        charged = 0
        for payment in captured:
            path = f"{address}/v1/payment_intents"
            found = _asked(path, payment_id=payment)["data"]
            assert [each["status"] for each in found] in ([], ["succeeded"])
            charged += len(found)
            for each in found:
                assert each["amount_refunded"] == (each["amount"] if payment in refunded else 0)
        assert charged == len(captured) - by_wallet

    def check_libraries(self) -> None:
        """Each game was granted once, and taken back once if it was refunded."""
        bought = [
            (order.buyer, order.game)
            for order in self.done.orders.values()
            if order.method != "cart"
        ]
        returned = [
            (self.done.orders[each].buyer, self.done.orders[each].game)
            for each in self.done.refunds
        ]
        added = [(each["user_id"], each["game_id"]) for each in self.of("library.game.added.v1")]
        removed = [each["game_id"] for each in self.of("library.game.removed.v1")]
        assert Counter(added) == Counter(bought)
        assert Counter(removed) == Counter(game for _, game in returned)
        for customer in self.customers.people:
            mine = customer.person.http.get("/api/v1/library?limit=200").json()["items"]
            owned = Counter((customer.person.id, item["game_id"]) for item in mine)
            assert owned == Counter(
                {each: 1 for each in set(bought) - set(returned) if each[0] == customer.person.id}
            )

    def check_wallets(self) -> None:
        """Wallets have what their owners were told, and so has the ledger."""
        assert set(self.streams("transaction.created.v1")) == set(self.done.moved)
        for customer in self.customers.people:
            spent = sum(
                order.cents
                for order in self.done.orders.values()
                if (order.buyer, order.method) == (customer.person.id, "wallet")
            )
            moved = self.done.moved.values()
            came = sum(each.cents for each in moved if each.target == customer.wallet)
            went = sum(each.cents for each in moved if each.source == customer.wallet)
            wallet = customer.person.http.get(f"/api/v1/wallets/{customer.wallet}").json()
            assert wallet["balance_cents"] == INITIAL_CENTS + came - went - spent
            account = f"/api/v1/ledger/accounts/WALLET:{customer.wallet}"
            posted = self.shop.admin().get(account).json().get("balance_cents", 0)
            assert posted == wallet["balance_cents"]
        assert self.shop.admin().get("/api/v1/ledger/trial-balance").json()["balanced"]

    def check_notifications(self) -> None:
        """Each buyer was told once of each purchase, by mail and by push; but an unverified address
        gets only so many mails an hour."""
        asked = [event for event in self.events if event["name"] == "notification.requested.v1"]
        sent = self.streams("notification.sent.v1")
        assert set(sent.values()) == {1}
        for channel, files in (("email", "mail/*.eml"), ("push", "push/*.json")):
            here = [event for event in asked if event["payload"]["channel"] == channel]
            told = Counter(
                event["payload"]["user_id"]
                for event in here
                if event["payload"]["template"] == "purchase"
            )
            assert told == Counter(order.buyer for order in self.done.orders.values())
            went_out = sum(event["stream_id"] in sent for event in here)
            assert len(list(self.shop.home.glob(files))) == went_out
        assert {each["code"] for each in self.of("notification.failed.v1")} <= {
            "recipient_unverified"
        }

    def check_receipts(self) -> None:
        """Each order has one receipt, and the operator misses no number."""
        receipts = self.of("payment.fiscal.receipt.created.v1")
        assert Counter(each["order_id"] for each in receipts) == Counter(self.done.orders.keys())
        operator = f"http://127.0.0.1:{self.shop.environment['LUDOTECA_FISCAL_PORT']}/v1/books"
        books = Counter((each["seller_id"], each["year"]) for each in receipts)
        for (seller, year), issued in books.items():
            book = _asked(f"{operator}/{seller}/{year}")
            assert book == {"issued": issued, "last_number": issued, "gaps": []}

    def check_read_models(self) -> None:
        """Read models are what a replay gives, the chain is whole, and nothing was set aside."""
        assert json.loads(self.shop.cli("quarantine", "list", "--json")) == []
        assert json.loads(self.shop.cli("dlq", "list", "--json")) == []
        assert all(row["equal"] for row in self.shop.verify())
        assert "intact" in self.shop.cli("audit", "verify")
        self.check_findings()

    def check_findings(self) -> None:
        """The shop's audit of itself finds nothing, and found nothing while processes failed."""
        assert json.loads(self.shop.cli("audit", "self", "--json"))["holds"]
        assert self.of("audit.finding_opened.v1") == []

    # -- at rest -----------------------------------------------------------------------------------

    def _pending(self) -> dict[str, int]:
        """How many of each are under way."""
        with self._connected() as conn:
            names: Counter[str] = Counter(
                dict(conn.execute("SELECT name, count(*) FROM log.events GROUP BY name").fetchall())
            )

        def left(begun: str, *ended: str) -> int:
            return names[f"{begun}.v1"] - sum(names[f"{each}.v1"] for each in ended)

        confirmed = names["order.confirmed.v1"]
        return {
            "payments": left(
                "payment.requested", "payment.transaction.completed", "payment.processed"
            ),
            "refunds": left("payment.refund_requested", "payment.refunded"),
            "transactions": left(
                "transaction.created", "transaction.completed", "transaction.failed"
            ),
            "orders": left("order.created", "order.confirmed"),
            "receipts": confirmed - names["payment.fiscal.receipt.created.v1"],
            "notifications": left(
                "notification.requested", "notification.sent", "notification.failed"
            ),
        }

    def _lags(self) -> dict[str, int]:
        """By how many events those that follow the log are behind; of read models, the newest
        versions."""
        with self._connected() as conn:
            head = checkpoints.head(conn)
            rows = sorted(checkpoints.subscriptions(conn), key=lambda row: row.version)
            return {row.projection: head - row.position for row in rows}

    def _connected(self) -> psycopg.Connection:
        return psycopg.connect(self.shop.environment["LUDOTECA_DATABASE_URL"], autocommit=True)


def _asked(url: str, **query: str) -> Any:
    """The answer of a simulator, which may have been killed last."""

    def ask() -> Any:
        try:
            return httpx.get(url, params=query, timeout=30).json()
        except httpx.TransportError:
            return None

    return eventually(ask, lambda found: found is not None, patience=PATIENCE)
