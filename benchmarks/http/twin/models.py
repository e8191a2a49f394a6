"""The requests and answers of the twin: the same fields as our API's, one by one.

`tests/api/test_twin.py` compares them with ours.
"""

from datetime import date, datetime
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_cursor: str | None = None


# -- games -----------------------------------------------------------------------------------------


class Price(BaseModel):
    region: str
    amount_cents: int
    currency: str


class Amount(BaseModel):
    amount_cents: int
    currency: str


class Image(BaseModel):
    id: UUID
    url: str
    thumb_url: str


class Offered(BaseModel):
    game_id: UUID
    price: Amount | None
    available: int | None
    image_urls: list[Image]


class ListedGame(Offered):
    reduced_from_cents: int | None = None  # no game of the benchmarks has had another price
    id: UUID
    seller_id: UUID
    sku: str
    title: str
    description: str
    publisher: str
    category: str
    genres: list[str]
    tags: list[str]
    platforms: list[str]
    release_date: date | None
    kind: str
    prices: list[Price]
    image_ids: list[UUID]
    status: str


class Game(ListedGame):
    version: int
    created_at: datetime
    updated_at: datetime


class FoundGame(ListedGame):
    highlight: str


class Count(BaseModel):
    value: str
    count: int


class PriceCount(BaseModel):
    price_min: int
    price_max: int | None
    count: int


class Facets(BaseModel):
    genre: list[Count]
    tag: list[Count]
    platform: list[Count]
    price: list[PriceCount]


class SearchPage(Page[FoundGame]):
    total: int
    facets: Facets
    suggestion: str | None
    engine: str


class OwnedGame(Offered):
    title: str
    purchase_date: datetime
    order_id: UUID


# -- orders ----------------------------------------------------------------------------------------


class Method(Body):
    type: Literal["card", "wallet"]
    token: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class NewOrder(Body):
    game_id: UUID
    payment_method: Method | None = None


class PlacedOrder(BaseModel):
    order_id: UUID
    payment_id: UUID
    transaction_id: UUID
    status: str
    payment_status: str
    amount_cents: int
    currency: str
    redirect_url: str | None = None
    client_secret: str | None = None


class Line(BaseModel):
    line_id: UUID
    game_id: UUID
    seller_id: UUID
    kind: str
    title: str
    quantity: int
    unit_price_cents: int
    shipment_id: UUID | None


class Happened(BaseModel):
    name: str
    at: datetime
    position: int
    status: str | None = None
    reason: str | None = None
    code: str | None = None
    detail: str | None = None
    amount_cents: int | None = None
    method: str | None = None
    provider: str | None = None
    provider_ref: str | None = None
    attempt: int | None = None


class Refund(BaseModel):
    refund_id: UUID
    amount_cents: int
    status: str
    reason: str
    code: str | None
    provider_ref: str | None
    requested_at: datetime


class Payment(BaseModel):
    id: UUID
    payment_id: UUID
    order_id: UUID | None
    amount_cents: int
    refunded_cents: int
    refund_status: str | None
    refunds: list[Refund]
    currency: str
    status: str
    method: str | None
    provider: str | None
    client_secret: str | None
    redirect_url: str | None
    checkout_url: str | None = None  # the twin has no page to pay on, and declines nothing
    code: str | None
    detail: str | None
    try_next: list[str] = []
    history: list[Happened]
    expires_at: datetime
    created_at: datetime
    updated_at: datetime


class Receipt(BaseModel):
    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    status: str
    url: str | None
    issued_at: datetime | None


class ShipmentLine(BaseModel):
    line_id: UUID
    game_id: UUID
    title: str
    quantity: int


class Shipment(BaseModel):
    id: UUID
    shipment_id: UUID
    order_id: UUID
    seller_id: UUID
    lines: list[ShipmentLine]
    provisional: bool
    status: str
    carrier: str | None
    tracking_number: str | None
    version: int
    processing_at: datetime | None
    shipped_at: datetime | None
    delivered_at: datetime | None
    cancelled_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Order(BaseModel):
    id: UUID
    order_id: UUID
    user_id: UUID
    region: str
    currency: str
    total_cents: int
    refunded_cents: int
    refund_status: str | None
    status: str
    provisional: bool
    cancel_reason: str | None
    payment_id: UUID
    lines: list[Line]
    payment: Payment | None
    receipt: Receipt | None
    receipts: list[Receipt]
    shipments: list[Shipment]
    timeline: list[Happened]
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    shipping_address: dict[str, str] | None


# -- carts -----------------------------------------------------------------------------------------


class NewItem(Body):
    product_id: UUID
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class Address(Body):
    name: Annotated[str, Field(min_length=1, max_length=300)]
    line1: Annotated[str, Field(min_length=1, max_length=300)]
    line2: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    city: Annotated[str, Field(min_length=1, max_length=300)]
    postal_code: Annotated[str, Field(min_length=1, max_length=20)]
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]


class Checkout(Body):
    payment_method: Method | None = None
    shipping_address: Address | None = None


class Item(BaseModel):
    id: UUID
    product_id: UUID
    sku: str
    seller_id: UUID
    title: str
    quantity: int
    unit_price_cents: int
    currency: str
    reservation_id: UUID | None


class Cart(BaseModel):
    id: UUID | None = None
    status: str = "ACTIVE"
    items: list[Item] = []
    total_cents: int = 0
    currency: str | None = None
    expires_at: datetime | None = None


class CheckedOut(BaseModel):
    order_id: UUID
    payment_id: UUID
    client_secret: str | None = None
    checkout_url: str
    redirect_url: str | None = None
    status: str
    payment_status: str
    amount_cents: int
    currency: str


# -- wallets ---------------------------------------------------------------------------------------


class NewTransaction(Body):
    type: Literal["transfer"]
    amount_cents: Annotated[int, Field(strict=True, ge=1, le=10**11)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    from_wallet_id: UUID
    to_wallet_id: UUID


class Transaction(BaseModel):
    id: UUID
    transaction_id: UUID
    user_id: UUID
    type: str
    status: str
    amount_cents: int
    currency: str
    from_wallet_id: UUID | None
    to_wallet_id: UUID | None
    order_id: UUID | None = None
    payment_id: UUID | None = None
    step: str | None = None
    code: str | None = None
    refunded_cents: int = 0
    reversed_cents: int = 0
    redirect_url: str | None = None
    client_secret: str | None = None
