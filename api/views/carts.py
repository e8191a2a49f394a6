"""The form of carts in answers."""

from uuid import UUID

from pydantic import Field

from api.fields import Answer, Time


class ItemView(Answer):
    """A line of the cart. `reservation_id` is its reservation in the stock; null for a digital
    game."""

    id: UUID
    product_id: UUID
    sku: str
    seller_id: UUID
    title: str
    quantity: int
    unit_price_cents: int
    currency: str
    reservation_id: UUID | None


class CartView(Answer):
    """A cart. Each change extends `expires_at`, within limits. A buyer without a cart sees an empty
    one without an `id`. An expired cart is returned once, as EXPIRED and with its items."""

    id: UUID | None = None
    status: str = "ACTIVE"
    items: list[ItemView] = Field(default_factory=list)
    total_cents: int = 0
    currency: str | None = None
    expires_at: Time | None = None


class SummaryLine(ItemView):
    """A line and its subtotal."""

    subtotal_cents: int


class SellerSubtotal(Answer):
    """One seller's share of the cart."""

    seller_id: UUID
    quantity: int
    subtotal_cents: int


class CartSummary(Answer):
    """A cart with subtotals by line and by seller."""

    id: UUID | None
    status: str
    lines: list[SummaryLine]
    sellers: list[SellerSubtotal]
    quantity: int
    total_cents: int
    currency: str | None
    expires_at: Time | None


class CheckedOut(Answer):
    """The order that the cart became.

    `checkout_url` is where the buyer continues: at `redirect_url` if there is one, else at the
    provider's payment page; or at the shop's page of the order, if it needs no payment or the
    provider has no such page.
    """

    order_id: UUID
    payment_id: UUID
    client_secret: str | None
    checkout_url: str
    redirect_url: str | None
    status: str
    payment_status: str
    amount_cents: int
    currency: str
