"""Events that usually precede a command: accounts, games, wallets, orders."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from domain import catalog, orders, payments, wallets
from domain.catalog import InitialStatus, Kind, Listing, Price
from domain.claims import ClaimTaken
from domain.events import Event
from domain.fulfilment import ShipmentConfirmed, ShipmentCreated, ShipmentLine
from domain.identity import MAILBOX, AccountType, UserRegistered
from domain.ids import claim_id, stock_id
from domain.inventory import StockCreated, StockUpdated
from domain.orders import OrderLine
from domain.payments import Method
from domain.wallets import Cause
from tests.support.commands import Streams, caller
from tests.support.given_when_then import NOON, an_id

ANA_ID, BEN_ID, SELLER_ID = an_id("ana"), an_id("ben"), an_id("seller")
ANA, BEN, SELLER = caller(ANA_ID), caller(BEN_ID), caller(SELLER_ID, "SELLER")

GAME, BOARD = an_id("chess"), an_id("board")
WALLET, BENS_WALLET = an_id("ana's wallet"), an_id("ben's wallet")
ORDER, PAYMENT, SHIPMENT = an_id("order"), an_id("payment"), an_id("shipment")

CARD = Method("card", "pm_card_visa")
BY_WALLET = Method("wallet")
ADDRESS = {
    "name": "Ana",
    "line1": "Rua A, 1",
    "city": "Recife",
    "postal_code": "50000-000",
    "country": "BR",
}


def account(user_id: UUID, account_type: AccountType = "BUYER", *, region: str = "BR") -> Streams:
    """An account with the password "correct horse"."""
    registered = UserRegistered(
        user_id=user_id,
        account_type=account_type,
        region=region,
        email=f"{user_id}@example.com",
        name="Somebody",
        email_digest=str(user_id),
        password_hash="plain:correct horse",
        digest_of=MAILBOX,
    )
    return {user_id: [registered]}


def game(
    game_id: UUID = GAME,
    kind: Kind = "DIGITAL",
    *,
    sku: str | None = None,
    seller_id: UUID = SELLER_ID,
    cents: int = 1999,
    status: InitialStatus = "ACTIVE",
    units: int = 0,
) -> Streams:
    """A game with a price in euros for all regions; a physical one also has this many units in
    stock."""
    sku = sku or f"SKU-{kind}"
    listing = Listing(
        sku=sku, title=f"A {kind} game", kind=kind, prices=(Price("*", cents, "EUR"),)
    )
    listed: dict[UUID, Sequence[Event]] = {
        game_id: catalog.create(seller_id, listing, status),
        claim_id("sku", seller_id, sku): [ClaimTaken(kind="sku", holder_id=game_id)],
    }
    if kind == "PHYSICAL":
        created = StockCreated(game_id=game_id, seller_id=seller_id, sku=sku)
        listed[stock_id(game_id)] = (
            [created, StockUpdated(total=units, available=units)] if units else [created]
        )
    return listed


def wallet(
    user_id: UUID = ANA_ID, wallet_id: UUID = WALLET, *, cents: int = 0, currency: str = "EUR"
) -> Streams:
    """A person's wallet with this balance."""
    events = wallets.create(user_id, currency)
    if cents:
        opened = wallets.evolve(None, events[0])
        assert opened is not None
        events += wallets.add_funds(opened, cents, Cause(reason="a gift"))
    claim = ClaimTaken(kind="wallet", holder_id=wallet_id)
    return {wallet_id: events, claim_id("wallet", user_id, currency): [claim]}


def line(
    kind: Kind = "DIGITAL", *, quantity: int = 1, cents: int = 1999, shipment_id: UUID | None = None
) -> OrderLine:
    game_id = GAME if kind == "DIGITAL" else BOARD
    return OrderLine(
        line_id=an_id(f"line of {kind}"),
        game_id=game_id,
        seller_id=SELLER_ID,
        kind=kind,
        title=f"A {kind} game",
        quantity=quantity,
        unit_price_cents=cents,
        fee_bps=1000,
        shipment_id=shipment_id,
    )


def order(
    *lines: OrderLine, method: Method | None = None, paid: bool = False, buyer_id: UUID = ANA_ID
) -> Streams:
    """An order that awaits its payment until half an hour after NOON, or is paid by card; its
    digital games are claimed."""
    bought = lines or (line(),)
    expires_at = NOON + timedelta(minutes=30)
    placed = orders.place(
        buyer_id=buyer_id,
        region="BR",
        currency="EUR",
        lines=bought,
        payment_id=PAYMENT,
        expires_at=expires_at,
        shipping_address=ADDRESS,
    )
    asked = payments.request(
        payment_id=PAYMENT,
        order_id=ORDER,
        buyer_id=buyer_id,
        game_ids=[each.game_id for each in bought],
        amount_cents=orders.total_of(bought),
        currency="EUR",
        expires_at=expires_at,
        method=method,
    )
    if paid:
        order_state, payment_state = orders.evolve(None, placed[0]), payments.evolve(None, asked[0])
        assert order_state is not None
        assert payment_state is not None
        placed += orders.confirm(order_state, NOON)
        asked += payments.capture(payment_state, "card", provider="fake", provider_ref="pi_1")
    taken = ClaimTaken(kind="ownership", holder_id=ORDER)
    owned: dict[UUID, Sequence[Event]] = {
        claim_id("ownership", buyer_id, each.game_id): [taken]
        for each in bought
        if each.kind == "DIGITAL"
    }
    return {ORDER: placed, PAYMENT: asked, **owned}


def shipment(*, confirmed: bool = True) -> Streams:
    """The shipment of a physical line of a paid order."""
    sent = ShipmentLine(an_id("line of PHYSICAL"), BOARD, "A PHYSICAL game", 2)
    created = ShipmentCreated(order_id=ORDER, seller_id=SELLER_ID, lines=(sent,))
    return {SHIPMENT: [created, ShipmentConfirmed()] if confirmed else [created]}
