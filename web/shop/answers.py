"""What the shop's pages read of the API's answers; fields that no page shows are left out."""

import hashlib
from datetime import date, datetime

import msgspec

from web.sessions import User
from web.words import concerns_buyers


class Money(msgspec.Struct, frozen=True):
    amount_cents: int
    currency: str


class Image(msgspec.Struct, frozen=True):
    id: str
    url: str
    thumb_url: str


class Game(msgspec.Struct, frozen=True):
    """A game. `reduced_from_cents` is what it cost before, if its price is reduced. `highlight` is
    the title as HTML, with what was searched for within `<em>`; only search results have it."""

    id: str
    title: str
    seller_id: str
    kind: str
    status: str
    price: Money | None = None
    reduced_from_cents: int | None = None
    available: int | None = None
    image_urls: list[Image] = msgspec.field(default_factory=list)
    description: str = ""
    publisher: str = ""
    category: str = ""
    genres: list[str] = msgspec.field(default_factory=list)
    tags: list[str] = msgspec.field(default_factory=list)
    platforms: list[str] = msgspec.field(default_factory=list)
    release_date: date | None = None
    highlight: str = ""

    @property
    def is_on_sale(self) -> bool:
        return self.status == "ACTIVE"


class Offer(msgspec.Struct, frozen=True):
    """A game's pictures, and how many of a physical one can be bought now."""

    game_id: str = ""
    available: int | None = None
    image_urls: list[Image] = msgspec.field(default_factory=list)


class Title(msgspec.Struct, frozen=True):
    id: str
    title: str


class Count(msgspec.Struct, frozen=True):
    value: str
    count: int


class PriceCount(msgspec.Struct, frozen=True):
    price_min: int
    price_max: int | None
    count: int


class Facets(msgspec.Struct, frozen=True):
    genre: list[Count]
    tag: list[Count]
    platform: list[Count]
    price: list[PriceCount]


class SearchPage(msgspec.Struct, frozen=True):
    items: list[Game]
    next_cursor: str | None
    total: int
    facets: Facets
    suggestion: str | None


class CartItem(msgspec.Struct, frozen=True):
    """A line. Only physical games have a reservation."""

    id: str
    product_id: str
    title: str
    quantity: int
    unit_price_cents: int
    currency: str
    reservation_id: str | None


class Cart(msgspec.Struct, frozen=True):
    id: str | None
    status: str
    items: list[CartItem]
    total_cents: int
    currency: str | None
    expires_at: datetime | None

    @property
    def is_expired(self) -> bool:
        return self.status == "EXPIRED"

    @property
    def is_open(self) -> bool:
        """Whether what is in it is kept for its buyer."""
        return bool(self.items) and self.status == "ACTIVE"

    @property
    def is_shipped(self) -> bool:
        """Whether something in it needs an address."""
        return any(item.reservation_id for item in self.items)

    @property
    def shown(self) -> str:
        """What a buyer agrees to by ordering: the games, how many of each, and what they cost."""
        lines = sorted(
            f"{item.product_id} {item.quantity} {item.unit_price_cents} {item.currency}"
            for item in self.items
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


class CheckedOut(msgspec.Struct, frozen=True):
    order_id: str


class Line(msgspec.Struct, frozen=True):
    game_id: str
    kind: str
    title: str
    quantity: int
    unit_price_cents: int


class TimelineEvent(msgspec.Struct, frozen=True):
    name: str
    at: datetime
    status: str | None = None


class Payment(msgspec.Struct, frozen=True):
    payment_id: str
    status: str
    method: str | None = None
    redirect_url: str | None = None
    checkout_url: str | None = None
    code: str | None = None
    detail: str | None = None
    try_next: list[str] = msgspec.field(default_factory=list)


class Paid(msgspec.Struct, frozen=True):
    """A payment: of an order, else of a deposit. It has a `code` if it failed."""

    order_id: str | None
    status: str
    code: str | None = None
    detail: str | None = None


class ParcelLine(msgspec.Struct, frozen=True):
    title: str
    quantity: int


class Shipment(msgspec.Struct, frozen=True):
    id: str
    status: str
    lines: list[ParcelLine]
    carrier: str | None = None
    tracking_number: str | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None


class Receipt(msgspec.Struct, frozen=True):
    """A seller's receipt. `url` is the fiscal operator's page for it."""

    number: int
    year: int
    amount_cents: int
    currency: str
    status: str
    url: str | None = None
    issued_at: datetime | None = None

    @property
    def is_issued(self) -> bool:
        return self.status == "CREATED"


_MONEY_MOVES = {"PROCESSING", "CAPTURED", "PARTIALLY_REFUNDED"}
"""Statuses of a cancelled order's payment after which money is still to go back."""


class Order(msgspec.Struct, frozen=True):
    order_id: str
    currency: str
    total_cents: int
    refunded_cents: int
    refund_status: str | None
    status: str
    cancel_reason: str | None
    payment: Payment | None
    lines: list[Line]
    receipts: list[Receipt]
    shipments: list[Shipment]
    timeline: list[TimelineEvent]
    expires_at: datetime
    created_at: datetime
    shipping_address: dict[str, str] | None = None

    @property
    def story(self) -> list[TimelineEvent]:
        """What happened, as far as it concerns the buyer."""
        return [each for each in self.timeline if concerns_buyers(each.name)]

    @property
    def is_shipped(self) -> bool:
        """Whether something in it needs an address."""
        return any(line.kind == "PHYSICAL" for line in self.lines)

    @property
    def is_unpaid(self) -> bool:
        return self.status == "PENDING_PAYMENT"

    @property
    def is_cancelled(self) -> bool:
        return self.status == "CANCELLED"

    @property
    def is_completed(self) -> bool:
        return self.status == "COMPLETED"

    @property
    def is_being_refunded(self) -> bool:
        return self.refund_status == "PENDING"

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen, except that a receipt is issued. What was paid can be
        refunded at any time; money that comes after the order was cancelled goes back."""
        if self.is_being_refunded:
            return False
        match self.status:
            case "REFUNDED":
                return True
            case "CANCELLED":
                return self.payment is None or self.payment.status not in _MONEY_MOVES
            case "COMPLETED":
                return self.total_cents == 0
        return False

    @property
    def awaits_receipt(self) -> bool:
        """Whether it is paid, and its receipt is still to come."""
        if not self.is_completed or self.total_cents == 0:
            return False
        return not all(each.is_issued for each in self.receipts) or not self.receipts


class OwnedGame(msgspec.Struct, frozen=True):
    game_id: str
    title: str
    purchase_date: datetime
    order_id: str
    image_urls: list[Image] = msgspec.field(default_factory=list)


class Wallet(msgspec.Struct, frozen=True):
    id: str
    currency: str
    balance_cents: int
    owed_cents: int
    status: str


class Movement(msgspec.Struct, frozen=True):
    type: str
    direction: str
    amount_cents: int
    currency: str
    balance_cents: int
    payment_id: str | None
    reason: str | None
    at: datetime


class Transaction(msgspec.Struct, frozen=True):
    id: str
    type: str
    status: str
    redirect_url: str | None = None


class Tokens(msgspec.Struct, frozen=True):
    access_token: str
    refresh_token: str
    expires_in: int


class LoggedIn(Tokens, frozen=True):
    user: User


class Registered(Tokens, frozen=True):
    """A new account: its fields beside its tokens."""

    id: str
    name: str | None
    email: str | None
    account_type: str
    region: str
    email_verified: bool

    @property
    def user(self) -> User:
        return User(
            self.id,
            self.name,
            self.email,
            self.account_type,
            self.region,
            self.email_verified,
        )
