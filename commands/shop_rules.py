"""The shop's rules that its operator sets: how long things last, how much is allowed, and what the
platform earns."""

from datetime import timedelta

import msgspec


class ShopRules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a process's commands. The settings of similar names describe them for
    operators."""

    payment_ttl: timedelta
    """How long an order or a deposit may stay unpaid."""
    cart_ttl: timedelta
    """How long a cart, and what it holds, lasts after a change."""
    cart_max: timedelta
    """How long a cart lasts at most, however often it is changed."""
    cart_max_quantity: int
    """How many of one physical game a buyer holds at most, in their cart and their unpaid orders
    together."""
    allocation_ttl: timedelta
    """How long an unpaid order holds stock."""
    fee_bps: int
    """The platform's share of a sale, in 1/100 percent."""
    low_stock: int
    """The number of units at or below which stock is low."""

    @property
    def stocked_order_ttl(self) -> timedelta:
        """How long an order that holds stock may stay unpaid."""
        return min(self.payment_ttl, self.allocation_ttl)
