"""A made-up history of a shop: its games, accounts, orders by card and from carts, wallets and
transfers, with what reactors and workers would have added.

Games and people are chosen as in life: few of them most of the time (Zipf). One wallet, the
busiest, has BUSIEST events.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from benchmarks.scale.population import Game, Person, Population
from benchmarks.scale.recorder import Append, Made, Recorder
from domain import ledger
from domain.cart import CartCompleted, CartCreated, CheckoutInitiated, ItemAdded
from domain.catalog import GameCreated, GameUpdated, Price
from domain.claims import ClaimReleased, ClaimTaken
from domain.identity import MAILBOX, LoggedIn, UserRegistered
from domain.ids import claim_id, derived, library_id
from domain.library import LibraryGameAdded
from domain.notifications import NotificationRequested, NotificationSent
from domain.orders import OrderCompleted, OrderConfirmed, OrderCreated, OrderLine
from domain.payments import Method, PaymentCaptured, PaymentRequested, PaymentSubmitted
from domain.receipts import (
    FiscalNumberGiven,
    FiscalReceiptCreated,
    FiscalReceiptRequested,
    book_id,
    receipt_id,
)
from domain.transactions import TransactionCompleted, TransactionCreated, TransactionProcessing
from domain.wallets import FundsAdded, FundsDeducted, WalletCreated

BEGUN = datetime(2025, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=600)
"""From the first event to the last, however many there are."""

GAMES = 2_000
"""Games for sale: two fifths of the shortest history, so that it has what the longest has."""

BUSIEST = 10_000
"""Events of the busiest wallet, which come in addition."""

FEE_BPS, CURRENCY, REGION = 1000, "USD", "US"
_WORDS = """
Ancient Broken Crimson Distant Eternal Fallen Golden Hollow Iron Jade Kindred Last Northern Obsidian
Pale Quiet Rising Silent Twin Umbral Velvet Winter Young Zephyr Anvil Blade Castle Dragon Empire
Frontier Garden Harbor Island Journey Kingdom Legend Machine Nomad Oracle Planet Quest Realm Shadow
Tower Valley Warden Exile Yard Zone
"""
WORDS = _WORDS.split()


class History(Recorder):
    """Makes some `events` at least, about so many `games`, and in addition the busiest wallet's
    events with their postings. The same again for the same `seed`."""

    def __init__(
        self, events: int, *, games: int = GAMES, busiest: int = BUSIEST, seed: int = 1
    ) -> None:
        super().__init__(random.Random(seed), BEGUN)
        self._events = events
        self._games = games
        self._busiest = busiest
        self._made = 0
        self._shop = Population(self._random)
        self._busiest_person = Person(UUID(int=0))
        self._numbers: dict[UUID, int] = {}  # of the sellers' fiscal books

    def __iter__(self) -> Iterator[Made]:
        yield from self._opening()
        busy, flows = 0, (self._bought, self._checked_out, self._transferred, self._others)
        while self._made < self._events:
            self.now = BEGUN + SPAN * (self._made / self._events)
            (flow,) = self._random.choices(flows, (70, 12, 10, 20))
            for made in flow():
                self._made += 1
                yield made
            while busy < self._busiest * self._made / self._events:
                busy += 1
                yield from self._moved(self._busiest_person, 100 if busy % 2 else -100)

    # -- flows -------------------------------------------------------------------------------------

    def _opening(self) -> Iterator[Made]:
        """Sellers, games, the first people."""
        for _ in range(max(10, self._games // 50)):
            yield from self._counted(self._registered("SELLER"))
        for _ in range(self._games):
            yield from self._counted(self._listed())
        yield from self._counted(self._registered("BUYER"))
        self._busiest_person = self._shop.people[0]
        yield from self._counted(self._wallet(self._busiest_person))
        for _ in range(99):
            yield from self._counted(self._registered("BUYER"))

    def _counted(self, flow: Iterator[Made]) -> Iterator[Made]:
        for made in flow:
            self._made += 1
            yield made

    def _others(self) -> Iterator[Made]:
        kind = self._random.random()
        if kind < 0.45:
            yield from self._registered("BUYER")
        elif kind < 0.9:
            person = self._shop.person()
            yield self.one(person.user_id, LoggedIn(self.new_id()), f"user:{person.user_id}")
        else:
            game = self._random.choice(self._shop.games)
            game.cents = self._random.randrange(199, 6999)
            update = GameUpdated(prices=(Price("*", game.cents, CURRENCY),))
            yield self.one(game.game_id, update, f"user:{game.seller_id}")

    def _registered(self, account_type: str) -> Iterator[Made]:
        user_id, number = self.new_id(), len(self._shop.people) + len(self._shop.sellers)
        digest = sha256(user_id.bytes).hexdigest()
        event = UserRegistered(
            user_id=user_id,
            account_type="SELLER" if account_type == "SELLER" else "BUYER",
            region=REGION,
            email=f"person-{number}@example.com",
            name=f"Person {number}",
            email_digest=digest,
            password_hash="",
            digest_of=MAILBOX,
        )
        append = self.append(f"user:{user_id}")
        first = append(user_id, event)
        yield first
        yield append(claim_id("email", digest), ClaimTaken("email", user_id))
        if account_type == "SELLER":
            self._shop.sellers.append(user_id)
            account_id = ledger.seller_account(user_id)
            opened = ledger.AccountOpened(account_id=account_id, user_id=user_id)
            yield self.one(derived("ledger.account", account_id), opened, "reactor:ledger", first)
            return
        person = Person(user_id)
        self._shop.people.append(person)
        yield from self._told(person, "welcome", first)
        if self._random.random() < 0.3:
            yield from self._wallet(person)

    def _wallet(self, person: Person) -> Iterator[Made]:
        if person.wallet_id is None:
            person.wallet_id = self.new_id()
            append = self.append(f"user:{person.user_id}")
            yield append(person.wallet_id, WalletCreated(person.user_id, CURRENCY))
            holder = claim_id("wallet", person.user_id, CURRENCY)
            yield append(holder, ClaimTaken("wallet", person.wallet_id))

    def _listed(self) -> Iterator[Made]:
        number, seller_id = len(self._shop.games), self._random.choice(self._shop.sellers)
        title = " ".join(self._random.sample(WORDS, 3)) + f" {number % 9 + 1}"
        game = Game(
            self.new_id(), seller_id, f"SKU-{number}", title, self._random.randrange(199, 6999)
        )
        self._shop.games.append(game)
        created = GameCreated(
            seller_id=seller_id,
            sku=game.sku,
            title=title,
            description=" ".join(self._random.choices(WORDS, k=40)),
            publisher=f"Publisher {self._random.randrange(200)}",
            category=self._random.choice(("Action", "Puzzle", "Strategy")),
            genres=("Action", "Indie"),
            tags=tuple(self._random.sample(WORDS, 4)),
            platforms=("windows", "linux"),
            kind="DIGITAL",
            prices=(Price("*", game.cents, CURRENCY),),
            image_ids=(),
            status="ACTIVE",
        )
        append = self.append(f"user:{seller_id}")
        yield append(game.game_id, created)
        yield append(claim_id("sku", seller_id, game.sku), ClaimTaken("sku", game.game_id))

    def _bought(self) -> Iterator[Made]:
        """An order of one game, paid by card."""
        person, games = self._shop.wanted(1)
        append = self.append(f"user:{person.user_id}")
        order_id, payment_id = self.new_id(), self.new_id()
        yield from self._ordered(append, person, games, order_id, payment_id)
        yield from self._paid(person, games, order_id, payment_id)

    def _checked_out(self) -> Iterator[Made]:
        """A cart of some games, checked out and paid by card."""
        person, games = self._shop.wanted(self._random.randint(1, 4))
        actor = f"user:{person.user_id}"
        cart_id, order_id, payment_id = self.new_id(), self.new_id(), self.new_id()
        ends_at = self.now + timedelta(minutes=15)
        append = self.append(actor)
        claim = claim_id("cart", person.user_id)
        yield append(cart_id, CartCreated(person.user_id, CURRENCY, ends_at, ends_at))
        yield append(claim, ClaimTaken("cart", cart_id))
        for game in games:
            item = ItemAdded(
                self.new_id(),
                game.game_id,
                game.seller_id,
                game.sku,
                game.title,
                1,
                game.cents,
                ends_at,
            )
            yield append(cart_id, item)
            append = self.append(actor)
        yield append(cart_id, CheckoutInitiated(order_id, payment_id))
        yield append(claim, ClaimReleased("checked out"))
        yield from self._ordered(append, person, games, order_id, payment_id, cart_id)
        yield from self._paid(person, games, order_id, payment_id)
        yield self.one(cart_id, CartCompleted(order_id), "reactor:settlement")

    def _ordered(
        self,
        append: Append,
        person: Person,
        games: Sequence[Game],
        order_id: UUID,
        payment_id: UUID,
        cart_id: UUID | None = None,
    ) -> Iterator[Made]:
        due, total = self.now + timedelta(minutes=30), sum(game.cents for game in games)
        order = OrderCreated(
            buyer_id=person.user_id,
            region=REGION,
            currency=CURRENCY,
            total_cents=total,
            provisional=cart_id is not None,
            payment_id=payment_id,
            expires_at=due,
            lines=tuple(self._line(game) for game in games),
            cart_id=cart_id,
        )
        yield append(order_id, order)
        requested = PaymentRequested(
            buyer_id=person.user_id,
            amount_cents=total,
            currency=CURRENCY,
            expires_at=due,
            order_id=order_id,
            method=Method("card", "pm_card_visa"),
            payment_id=payment_id,
            game_ids=tuple(game.game_id for game in games),
        )
        yield append(payment_id, requested)
        for game in games:
            claim = claim_id("ownership", person.user_id, game.game_id)
            yield append(claim, ClaimTaken("ownership", order_id))

    def _line(self, game: Game) -> OrderLine:
        return OrderLine(
            self.new_id(),
            game.game_id,
            game.seller_id,
            "DIGITAL",
            game.title,
            1,
            game.cents,
            FEE_BPS,
        )

    def _paid(
        self, person: Person, games: Sequence[Game], order_id: UUID, payment_id: UUID
    ) -> Iterator[Made]:
        """What follows from an order: payment, settlement, ledger, library, receipts, notices."""
        total = sum(game.cents for game in games)
        yield self.one(payment_id, PaymentSubmitted("simulated", 1), "worker:payments")
        captured = PaymentCaptured(
            order_id=order_id,
            buyer_id=person.user_id,
            amount_cents=total,
            currency=CURRENCY,
            method_type="card",
            provider="simulated",
            provider_ref=f"pi_{payment_id.hex[-16:]}",
            user_id=person.user_id,
            game_ids=tuple(game.game_id for game in games),
            transaction_id=payment_id,
        )
        cause = self.one(payment_id, captured, "worker:payments")
        yield cause
        append = self.append("reactor:settlement", cause)
        confirmed = append(order_id, OrderConfirmed(payment_id))
        yield confirmed
        completed = append(order_id, OrderCompleted())
        yield completed
        append = self.append("reactor:library_grants", completed)
        for game in games:
            yield append(
                library_id(person.user_id),
                LibraryGameAdded(person.user_id, game.game_id, order_id, game.title, self.now),
            )
        entries = ledger.capture([self._line(game) for game in games], CURRENCY)
        yield self.posting(cause, entries, order_id=order_id, payment_id=payment_id)
        yield from self._told(person, "purchase", completed)
        sold: dict[UUID, int] = {}
        for game in games:
            sold[game.seller_id] = sold.get(game.seller_id, 0) + game.cents
        for seller_id, cents in sold.items():
            yield from self._receipted(order_id, seller_id, cents, confirmed)

    def _receipted(
        self, order_id: UUID, seller_id: UUID, cents: int, cause: Made
    ) -> Iterator[Made]:
        book = book_id(seller_id, self.now.year)
        number = self._numbers[book] = self._numbers.get(book, 0) + 1
        year, receipt = self.now.year, receipt_id(order_id, seller_id)
        append = self.append("worker:fiscal", cause)
        yield append(book, FiscalNumberGiven(order_id, seller_id, number, year))
        yield append(
            receipt,
            FiscalReceiptRequested(order_id, seller_id, number, year, cents, CURRENCY),
        )
        yield self.one(
            receipt,
            FiscalReceiptCreated(order_id, seller_id, number, year, cents, CURRENCY),
            "worker:fiscal",
            cause,
        )

    def _transferred(self) -> Iterator[Made]:
        """A transfer between wallets, after an operator's gift where the source is empty."""
        source, target = self._shop.person(), self._shop.person()
        yield from self._wallet(source)
        yield from self._wallet(target)
        if source.wallet_id is None or target.wallet_id is None or source is target:
            return
        cents = self._random.randrange(100, 5000)
        if source.balance < cents:
            yield from self._moved(source, 10_000)
        append, transaction_id = self.append(f"user:{source.user_id}"), self.new_id()
        created = TransactionCreated(
            "transfer", cents, CURRENCY, source.user_id, source.wallet_id, target.wallet_id
        )
        source.balance -= cents
        target.balance += cents
        yield append(transaction_id, created)
        yield append(transaction_id, TransactionProcessing())
        yield append(transaction_id, TransactionCompleted(cents, CURRENCY))
        deducted = append(
            source.wallet_id, FundsDeducted(cents, CURRENCY, source.balance, transaction_id)
        )
        yield deducted
        added = append(
            target.wallet_id, FundsAdded(cents, CURRENCY, target.balance, transaction_id)
        )
        yield added
        accounts = (
            ledger.wallet_account(source.wallet_id),
            ledger.TRANSFERS,
            ledger.wallet_account(target.wallet_id),
        )
        for cause, one, other in zip((deducted, added), accounts, accounts[1:], strict=False):
            entries = ledger.move(one, other, cents, CURRENCY)
            yield self.posting(cause, entries, transaction_id=transaction_id)

    def _moved(self, person: Person, cents: int) -> Iterator[Made]:
        """An operator adds to a wallet, or takes from it."""
        assert person.wallet_id is not None
        person.balance += cents
        kind = FundsAdded if cents > 0 else FundsDeducted
        event = kind(abs(cents), CURRENCY, person.balance, reason="correction")
        cause = self.one(person.wallet_id, event, "user:admin")
        yield cause
        one, other = ledger.ADJUSTMENTS, ledger.wallet_account(person.wallet_id)
        if cents < 0:
            one, other = other, one
        yield self.posting(cause, ledger.move(one, other, abs(cents), CURRENCY))

    def _told(self, person: Person, template: str, cause: Made) -> Iterator[Made]:
        notice_id = self.new_id()
        requested = NotificationRequested(
            person.user_id, "email", template, cause.event_id, {"name": "Person"}
        )
        yield self.one(notice_id, requested, "reactor:people_told", cause)
        yield self.one(notice_id, NotificationSent(), "worker:notices", cause)
