"""Random histories of the shop: people register, sell, buy, pay, get refunds, move money between
wallets, and are forgotten, as the domain allows."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
from hypothesis import strategies as st

from commands.aggregates import (
    ACT,
    ALERT,
    BOOK,
    CART,
    FINDING,
    GAME,
    LIBRARY,
    NOTIFICATION,
    ORDER,
    PAYMENT,
    POSTING,
    RECEIPT,
    SHIPMENT,
    STOCK,
    TRANSACTION,
    USER,
    WALLET,
)
from domain import (
    acts,
    alerts,
    cart,
    catalog,
    findings,
    fulfilment,
    identity,
    inventory,
    ledger,
    library,
    notifications,
    orders,
    payments,
    receipts,
    transactions,
    wallets,
)
from domain.errors import Refused
from domain.events import Event
from domain.ids import library_id, stock_id
from domain.payments import refunds
from eventstore.aggregate import Aggregate
from tests.support.events.history import DUE, START

Batch = list[tuple[UUID, list[Event]]]
Step = tuple[str, int, str]

TEXTS = st.text(max_size=12)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["register", "verify", "rename", "log_in", "forget", "list", "edit", "publish",
            "retire", "order", "order",
             "submit", "redirect", "capture", "decline", "expire", "refund", "notify", "deliver",
             "open", "adjust", "adjust", "transfer",
             "send", "send", "send", "find", "act", "alert", "count",
             "fill", "fill", "fill", "fill"]
        ),
        st.integers(0, 3),
        TEXTS,
    ),
    min_size=10,
    max_size=60,
)  # fmt: skip

EVERYTHING: list[Step] = [
    (what, n, "ab" * n)
    for what in (
        *("register", "verify", "list", "count", "open", "order", "capture", "refund", "notify"),
        *(
            "adjust",
            "transfer",
            "send",
            "send",
            "send",
            "find",
            "find",
            "act",
            "act",
            "alert",
            "alert",
        ),
        *("fill", "fill", "fill", "edit"),
    )
    for n in range(4)
    if (what, n) != ("refund", 0)  # one order keeps its game
]
"""Steps after which every read model has rows, except those of WITHOUT_STEPS."""

WITHOUT_STEPS = {"webhook_endpoints", "webhook_deliveries"}
"""The read models of whose events no step makes any."""


class Flow:
    """Carries out steps. Each step yields a batch of events for the log, or none if the domain
    refuses."""

    def __init__(self) -> None:
        self.states: dict[UUID, Any] = {}
        self.people, self.games, self.orders, self.notifications, self.wallets = (
            [uuid4() for _ in range(4)] for _ in range(5)
        )
        self.forgotten: list[UUID] = []

    def steps(self, steps: Sequence[Step]) -> list[Batch]:
        found = []
        for step in [("register", 0, "Ana"), ("list", 0, "Chess"), *steps]:
            before = dict(self.states)
            try:
                batch = self._step(*step)
            except Refused:
                self.states = before
                continue
            if batch and any(events for _, events in batch):
                found.append(batch)
        return found

    def _step(self, what: str, n: int, text: str) -> Batch:
        steps: dict[str, Callable[[int, str], Batch]] = {
            "register": self._register,
            "list": self._list,
            "edit": self._edit,
            "order": self._order,
            "capture": self._capture,
            "refund": self._refund,
            "notify": self._notify,
            "open": self._open,
            "adjust": self._adjust,
            "transfer": self._transfer,
            "send": self._send,
            "find": self._find,
            "act": self._act,
            "alert": self._alert,
            "count": self._count,
            "fill": self._fill,
        }
        if what in steps:
            return steps[what](n, text)
        return self._one(what, n, text)

    def _did(
        self, aggregate: Aggregate[Any], stream_id: UUID, events: list[Any]
    ) -> tuple[UUID, list[Event]]:
        self.states[stream_id] = aggregate.fold(self.states.get(stream_id), events)
        return stream_id, events

    def _one(self, what: str, n: int, text: str) -> Batch:
        """Steps of one stream."""
        user, game, payment_id = self.people[n], self.games[n], UUID(int=self.orders[n].int ^ 1)
        account, offer, payment = (
            self.states.get(user),
            self.states.get(game),
            self.states.get(payment_id),
        )
        if account is not None and what in {"verify", "rename", "log_in", "forget"}:
            decided = {
                "verify": lambda: identity.verify_email(account, account.email_digest),
                "rename": lambda: identity.change_profile(account, name=text or "x",
                email=f"{len(text)}@x.org",
                                                          email_digest=f"digest {text}"),
                "log_in": lambda: identity.log_in(account, password_matches=True,
                session_id=uuid4()),
                "forget": lambda: identity.forget(account),
            }[what]()  # fmt: skip
            self.forgotten += [user] if what == "forget" and decided else []
            return [self._did(USER, user, decided)]
        if offer is not None and what == "publish":
            return [
                self._did(
                    GAME,
                    game,
                    catalog.update(offer, offer.listing, by=offer.seller_id, status="ACTIVE"),
                )
            ]
        if offer is not None and what == "retire":
            return [self._did(GAME, game, catalog.retire(offer, by=offer.seller_id))]
        if payment is not None and what == "submit":
            return [
                self._did(PAYMENT, payment_id, payments.submit(payment, "simulated", n + 1, START))
            ]
        if payment is not None and what == "redirect":
            asked = payments.require_action(
                payment, provider_ref="pi", redirect_url=text, client_secret_ref=text
            )
            return [self._did(PAYMENT, payment_id, asked)]
        if payment is not None and what in {"decline", "expire"}:
            failed = payments.fail(payment, "card_declined", text)
            order_id = self.orders[n]
            cancelled = (
                orders.cancel(self.states[order_id], cast(orders.CancelReason, text))
                if what == "expire"
                else []
            )
            return [self._did(PAYMENT, payment_id, failed), self._did(ORDER, order_id, cancelled)]
        notice = self.states.get(self.notifications[n])
        if notice is not None and what == "deliver":
            sent = (
                notifications.mark_sent(notice)
                if len(text) % 2
                else notifications.mark_failed(notice, text, n)
            )
            return [self._did(NOTIFICATION, self.notifications[n], sent)]
        return []

    def _register(self, n: int, text: str) -> Batch:
        if self.people[n] in self.states:
            return []
        opened = identity.register(
            user_id=self.people[n], account_type="SELLER" if n else "BUYER",
            email=f"{n}@example.com",
            name=text.strip() or "x", email_digest=f"{n}", password_hash="hash",
        )  # fmt: skip
        return [self._did(USER, self.people[n], opened)]

    def _list(self, n: int, text: str) -> Batch:
        if self.games[n] in self.states:
            return []
        prices = (catalog.Price("*", 100 * n, "USD"), catalog.Price("BR", 500, "BRL"))[: n % 3]
        listing = catalog.Listing(
            sku=f"SKU {n}", title=text.strip() or "x", kind="DIGITAL", description=text,
            genres=(text, "Action"),
            prices=prices or (catalog.Price("*", 999, "USD"),), release_date=date(2020, 1,
            1) if n % 2 else None,
        )  # fmt: skip
        return [
            self._did(
                GAME,
                self.games[n],
                catalog.create(self.people[0], listing, "DRAFT" if n == 3 else "ACTIVE"),
            )
        ]

    def _edit(self, n: int, text: str) -> Batch:
        game = self.states.get(self.games[n])
        if game is None:
            return []
        wanted = msgspec.structs.replace(
            game.listing, title=text.strip() or "y", tags=(text,), category=text
        )
        return [self._did(GAME, self.games[n], catalog.update(game, wanted, by=game.seller_id))]

    def _order(self, n: int, text: str) -> Batch:
        order_id, game = self.orders[n], self.states.get(self.games[n])
        if game is None or order_id in self.states:
            return []
        price, payment_id = catalog.offer(game, "BR"), UUID(int=order_id.int ^ 1)
        line = orders.OrderLine(uuid4(), self.games[n], game.seller_id, "DIGITAL",
        game.listing.title, 1,
                                price.amount_cents, 1000)  # fmt: skip
        placed = orders.place(
            buyer_id=self.people[0], region="BR", currency=price.currency, payment_id=payment_id,
            expires_at=DUE,
            lines=[line],
        )  # fmt: skip
        asked = payments.request(
            order_id=order_id, buyer_id=self.people[0], amount_cents=price.amount_cents,
            currency=price.currency,
            expires_at=DUE, method=payments.Method("card", text),
        )  # fmt: skip
        return [self._did(ORDER, order_id, placed), self._did(PAYMENT, payment_id, asked)]

    def _capture(self, n: int, text: str) -> Batch:
        order_id, payment_id = self.orders[n], UUID(int=self.orders[n].int ^ 1)
        if payment_id not in self.states:
            return []
        order, shelf = self.states[order_id], library_id(self.people[0])
        captured = payments.capture(self.states[payment_id], "card", provider_ref=text)
        confirmed = orders.confirm(order, START)
        added = library.add(
            self.states.get(shelf), user_id=self.people[0], game_id=self.games[n],
            order_id=order_id,
            title=order.lines[0].title, purchase_date=START + timedelta(microseconds=n),
        )  # fmt: skip
        return [
            self._did(PAYMENT, payment_id, captured), self._did(ORDER, order_id, confirmed),
            self._did(LIBRARY, shelf, added), *self._reported(order_id, text),
        ]  # fmt: skip

    def _reported(self, order_id: UUID, text: str) -> Batch:
        """The seller's fiscal receipt; with a long text, one that fails first."""
        order = self.states[order_id]
        seller_id = order.lines[0].seller_id
        receipt, book = (
            receipts.receipt_id(order_id, seller_id),
            receipts.book_id(seller_id, START.year),
        )
        if receipt in self.states or not order.total_cents:
            return []
        given = receipts.give_number(self.states.get(book), order_id, seller_id, START.year)
        requested = receipts.request(given, order.total_cents, order.currency)
        asked = RECEIPT.fold(None, [requested])
        assert asked is not None
        failed = receipts.mark_failed(asked, text, 5) if len(text) > 5 else []
        created = receipts.mark_created(asked, text or None)
        renumbered = [receipts.renumber(asked, given)] if len(text) > 5 else []
        seen = receipts.FiscalReceiptFound(**msgspec.structs.asdict(requested), reference=text)
        _, found = receipts.find(asked, seen)
        issued = found if len(text) > 10 else created
        events = [requested, *failed, *renumbered, *issued]
        return [self._did(BOOK, book, [given]), self._did(RECEIPT, receipt, events)]

    def _refund(self, n: int, text: str) -> Batch:
        order_id, payment_id = self.orders[n], UUID(int=self.orders[n].int ^ 1)
        payment = self.states.get(payment_id)
        if payment is None:
            return []
        refund_id, amount = (
            uuid4(),
            max(payment.refundable_cents - len(text), min(1, payment.amount_cents)),
        )
        asked = self._did(
            PAYMENT, payment_id, refunds.request_refund(payment, refund_id, amount, text)
        )
        done = refunds.complete_refund(self.states[payment_id], refund_id)
        shelf = library_id(self.people[0])
        removed = library.remove(
            self.states.get(shelf), game_id=self.games[n], order_id=order_id, reason="refunded"
        )  # fmt: skip
        return [
            (payment_id, asked[1] + self._did(PAYMENT, payment_id, done)[1]),
            self._did(ORDER, order_id, orders.record_refund(self.states[order_id], amount)),
            self._did(LIBRARY, shelf, removed),
        ]

    def _send(self, n: int, text: str) -> Batch:
        """The next step of an order's shipment; with a long text, its cancellation."""
        shipment_id = UUID(int=self.orders[n].int ^ 2)
        parcel: fulfilment.Shipment | None = self.states.get(shipment_id)
        if parcel is None:
            line = fulfilment.ShipmentLine(uuid4(), self.games[n], text, n + 1)
            return [
                self._did(
                    SHIPMENT, shipment_id, fulfilment.create(self.orders[n], self.people[0], [line])
                )
            ]
        if len(text) > 8:
            return [self._did(SHIPMENT, shipment_id, fulfilment.cancel(parcel, START))]
        if parcel.provisional:
            return [self._did(SHIPMENT, shipment_id, fulfilment.confirm(parcel))]
        decided = {
            "PENDING": lambda: fulfilment.process(parcel, START),
            "PROCESSING": lambda: fulfilment.ship(parcel, text or "x", text or "x", START),
            "SHIPPED": lambda: fulfilment.deliver(parcel, DUE, DUE),
        }.get(parcel.status, list)()
        return [self._did(SHIPMENT, shipment_id, decided)]

    def _notify(self, n: int, text: str) -> Batch:
        asked = notifications.request(
            self.states.get(self.notifications[n]), user_id=self.people[0], channel="email",
            template="welcome",
            cause_event_id=uuid4(), params={"name": text, "token": "t"},
        )  # fmt: skip
        return [self._did(NOTIFICATION, self.notifications[n], asked)]

    def _open(self, n: int, text: str) -> Batch:
        if self.wallets[n] in self.states:
            return []
        account = ledger.AccountOpened(
            account_id=ledger.seller_account(self.people[n]), user_id=self.people[n]
        )
        return [
            self._did(WALLET, self.wallets[n], wallets.create(self.people[n], "USD")),
            self._did(POSTING, uuid4(), [account]),
        ]

    def _adjust(self, n: int, text: str) -> Batch:
        wallet_id, wallet = self.wallets[n], self.states.get(self.wallets[n])
        if wallet is None:
            return []
        added = wallets.add_funds(wallet, 100 + len(text), wallets.Cause(reason=text or "x"))
        return [
            self._did(WALLET, wallet_id, added),
            self._posted("ADJUSTMENTS", self._account(n), 100 + len(text)),
        ]

    def _transfer(self, n: int, text: str) -> Batch:
        """A transfer to the next wallet. With a long text the receiver is inactive, and the sender
        gets the money back."""
        source, target, amount = self.wallets[n], self.wallets[(n + 1) % 4], 10 + len(text)
        if source not in self.states or target not in self.states:
            return []
        transaction_id = uuid4()
        cause = wallets.Cause(transaction_id=transaction_id)
        asked = transactions.transfer(
            user_id=self.people[n],
            from_wallet_id=source,
            to_wallet_id=target,
            amount_cents=amount,
            currency="USD",
        )
        taken = self._did(WALLET, source, wallets.deduct_funds(self.states[source], amount, cause))[
            1
        ]
        started = TRANSACTION.fold(None, asked)
        assert started is not None
        if len(text) > 6:
            failed = transactions.fail(started, "credit", "wallet_inactive", amount)
            given = self._did(
                WALLET, source, wallets.give_back(self.states[source], amount, cause)
            )[1]
            return [self._did(TRANSACTION, transaction_id, asked + failed), (source, taken + given)]
        ended = [*transactions.process(started), *transactions.complete(started)]
        return [
            self._did(TRANSACTION, transaction_id, asked + ended),
            (source, taken),
            self._did(WALLET, target, wallets.add_funds(self.states[target], amount, cause)),
            self._posted(self._account(n), self._account((n + 1) % 4), amount),
        ]

    def _find(self, n: int, text: str) -> Batch:
        """A finding of the shop's audit of itself: opened, or resolved if it is open."""
        stream_id = findings.finding_id("holds", str(self.people[n]))
        found = self.states.get(stream_id)
        if found is not None and found.status == "OPEN":
            return [self._did(FINDING, stream_id, findings.resolve(found, n))]
        opened = findings.open_finding(
            found, invariant="holds", subject=str(self.people[n]), detail=text, at=n
        )
        return [self._did(FINDING, stream_id, opened)]

    def _act(self, n: int, text: str) -> Batch:
        """An act of an operator: begun, or ended if it has begun."""
        stream_id = UUID(int=self.people[n].int ^ 5)
        act = self.states.get(stream_id)
        if act is not None:
            ended = acts.end(act, affected=n, error=text or None, details={})
            return [self._did(ACT, stream_id, ended)]
        begun = acts.begin("projection.pause", target=text, reason=None, details={"n": text})
        return [self._did(ACT, stream_id, begun)]

    def _alert(self, n: int, text: str) -> Batch:
        """An alert: raised, then acknowledged or resolved."""
        seen = alerts.Seen("test", "wrong", {"person": f"{self.people[n]}"}, "warning", text)
        alert, stream_id = self.states.get(seen.alert_id), seen.alert_id
        if alert is None or alert.status == "RESOLVED":
            decided = alerts.raise_alert(alert, seen)
        elif alert.status == "RAISED" and len(text) % 2:
            decided = alerts.acknowledge(alert, text)
        else:
            decided = alerts.resolve(alert)
        return [self._did(ALERT, stream_id, decided)]

    def _count(self, n: int, text: str) -> Batch:
        stream_id = stock_id(self.games[n])
        if stream_id not in self.states:
            return [
                self._did(
                    STOCK, stream_id, inventory.create(None, self.games[n], self.people[0], text)
                )
            ]
        return [
            self._did(
                STOCK,
                stream_id,
                inventory.set_total(self.states[stream_id], 3 + len(text), 5, now=START),
            )
        ]

    def _fill(self, n: int, text: str) -> Batch:
        """The next step of a cart with one line, and of its reservation; the length of the text
        chooses the step."""
        cart_id, stream_id = UUID(int=self.orders[n].int ^ 3), stock_id(self.games[n])
        found, stock = self.states.get(cart_id), self.states.get(stream_id)
        if stock is None:
            return []
        if found is None:
            return [self._did(CART, cart_id, cart.create(self.people[0], "USD", DUE, DUE))]
        item = next(iter(found.items.values()), None)
        hold, many, at = (item.reservation_id if item else uuid4()), 1 + len(text) % 3, START
        if item is None:
            line = cart.Item(uuid4(), self.games[n], self.people[0], text, text, many, 100, hold)
            held = inventory.reserve(stock, hold, cart_id, many, DUE, now=at)
            filled = cart.add(found, line, "USD", DUE, digital=False, now=at)
        elif found.status == "CHECKOUT":
            held = (
                inventory.confirm_sale(stock, hold)
                if len(text) % 2
                else inventory.release(stock, hold, text)
            )
            filled = cart.complete(found) if len(text) % 2 else cart.abandon(found)
        elif len(text) > 8:
            held = inventory.allocate(stock, hold, self.orders[n], DUE, threshold=5, now=at)
            filled = cart.check_out(found, self.orders[n], uuid4(), now=at)
        elif len(text) > 6:
            held, filled = inventory.expire(stock, DUE), cart.expire(found, DUE)
        elif len(text) > 4:
            held, filled = (
                inventory.release(stock, hold, text),
                cart.remove(found, item.item_id, DUE, now=at),
            )
        else:
            held = inventory.change(stock, hold, many, DUE, now=at)
            filled = cart.change(found, item.item_id, many, DUE, now=at)
        return [self._did(CART, cart_id, filled), self._did(STOCK, stream_id, held)]

    def _account(self, n: int) -> str:
        return ledger.wallet_account(self.wallets[n])

    def _posted(self, source: str, target: str, amount: int) -> tuple[UUID, list[Event]]:
        entries = ledger.move(source, target, amount, "USD")
        return self._did(POSTING, uuid4(), ledger.post(None, uuid4(), entries))
