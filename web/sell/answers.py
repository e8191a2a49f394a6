"""What the seller's desk reads of the API's answers; fields that no page shows are left out."""

from datetime import date, datetime

import msgspec

from web.shop.answers import Image, Money


class Price(msgspec.Struct, frozen=True):
    """A price in a region; `*` is every region without one of its own."""

    region: str
    amount_cents: int
    currency: str


class SellersGame(msgspec.Struct, frozen=True):
    """A game as its seller edits it; `version` is what an edit is based on."""

    id: str = ""
    title: str = ""
    sku: str = ""
    kind: str = "DIGITAL"
    status: str = "DRAFT"
    description: str = ""
    publisher: str = ""
    category: str = ""
    genres: list[str] = msgspec.field(default_factory=list)
    tags: list[str] = msgspec.field(default_factory=list)
    platforms: list[str] = msgspec.field(default_factory=list)
    release_date: date | None = None
    prices: list[Price] = msgspec.field(default_factory=list)
    price: Money | None = None
    reduced_from_cents: int | None = None
    available: int | None = None
    image_ids: list[str] = msgspec.field(default_factory=list)
    image_urls: list[Image] = msgspec.field(default_factory=list)
    version: int = 0

    @property
    def is_on_sale(self) -> bool:
        return self.status == "ACTIVE"

    @property
    def is_draft(self) -> bool:
        return self.status == "DRAFT"

    @property
    def is_suspended(self) -> bool:
        return self.status == "SUSPENDED"

    @property
    def is_retired(self) -> bool:
        return self.status == "RETIRED"


class Stored(msgspec.Struct, frozen=True):
    """An image that the shop has."""

    image_id: str


class StockItem(msgspec.Struct, frozen=True):
    """The units of a physical game; `low` says that few are left."""

    product_id: str
    title: str
    sku: str
    status: str
    total: int
    available: int
    reserved: int
    allocated: int
    low: bool
    version: int

    @property
    def is_on_sale(self) -> bool:
        return self.status == "ACTIVE"


class ParcelLine(msgspec.Struct, frozen=True):
    game_id: str
    title: str
    quantity: int


class Parcel(msgspec.Struct, frozen=True):
    """A shipment; only a single one that is not delivered has its address."""

    id: str
    order_id: str
    status: str
    lines: list[ParcelLine]
    version: int
    created_at: datetime
    carrier: str | None = None
    tracking_number: str | None = None
    processing_at: datetime | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    cancelled_at: datetime | None = None
    shipping_address: dict[str, str] | None = None

    @property
    def is_to_pack(self) -> bool:
        return self.status == "PENDING"

    @property
    def is_to_hand_over(self) -> bool:
        return self.status == "PROCESSING"

    @property
    def is_on_its_way(self) -> bool:
        return self.status == "SHIPPED"

    @property
    def is_over(self) -> bool:
        """Whether it has arrived, or never will."""
        return self.status in {"DELIVERED", "CANCELLED"}


class Figures(msgspec.Struct, frozen=True):
    """Sales in one currency, of a day, a game, or of all."""

    currency: str
    orders: int
    units: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int
    day: date | None = None
    game_id: str | None = None
    title: str = ""

    @property
    def earned_cents(self) -> int:
        """What is left for the seller."""
        return self.gross_cents - self.refunded_cents - self.fee_cents


class Report(msgspec.Struct, frozen=True):
    items: list[Figures]
    totals: list[Figures]
    next_cursor: str | None = None


class SoldLine(msgspec.Struct, frozen=True):
    game_id: str
    title: str
    quantity: int
    gross_cents: int
    refunded_cents: int
    shipment_id: str | None


class Sale(msgspec.Struct, frozen=True):
    """A paid order: the seller's own lines."""

    order_id: str
    status: str
    region: str
    currency: str
    created_at: datetime
    lines: list[SoldLine]
    gross_cents: int
    refunded_cents: int
    fee_cents: int

    @property
    def earned_cents(self) -> int:
        """What is left for the seller."""
        return self.gross_cents - self.refunded_cents - self.fee_cents

    @property
    def shipment_id(self) -> str | None:
        """The parcel with what is shipped of it: a seller has one per order."""
        return next((line.shipment_id for line in self.lines if line.shipment_id), None)


class Balance(msgspec.Struct, frozen=True):
    currency: str
    debits_cents: int
    credits_cents: int
    balance_cents: int


class Entry(msgspec.Struct, frozen=True):
    """A movement on the account; `position` is that of its cause in the log."""

    direction: str
    amount_cents: int
    currency: str
    order_id: str | None
    position: int
    at: datetime


class Account(msgspec.Struct, frozen=True):
    """A ledger account, and a page of its entries."""

    id: str
    balances: list[Balance]
    items: list[Entry]
    next_cursor: str | None


class Endpoint(msgspec.Struct, frozen=True):
    """A webhook endpoint. `failures` are those in a row; only a new one has its `secret`."""

    id: str
    url: str
    events: list[str]
    description: str
    status: str
    disabled_reason: str | None
    failures: int
    created_at: datetime
    secret: str | None = None

    @property
    def is_enabled(self) -> bool:
        return self.status == "ENABLED"


class Delivery(msgspec.Struct, frozen=True):
    """A message to an endpoint. `code` tells why the last attempt failed."""

    id: str
    event: str
    status: str
    attempts: int
    code: str | None
    http_status: int | None
    requested_at: datetime
