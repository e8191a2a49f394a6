"""The rules of the shop."""

from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from runtime.settings.values import Duration


class ShopSettings(BaseModel):
    """The rules of the shop."""

    admin_email: str = Field(
        "admin@ludoteca.example",
        description="E-mail of the first ADMIN, created at the first start.",
    )
    admin_password: SecretStr = Field(
        SecretStr(""),
        description="Password of the first ADMIN. Empty: one is generated and stored in HOME/admin-password.txt.",
    )
    environment: str = Field(
        "",
        max_length=40,
        description="What this shop is, such as production or staging: every page of the console says so.",
    )
    sample: Literal["on", "off"] = Field(
        "on", description="Whether a new shop starts with a sample of real games."
    )
    payment_ttl_seconds: Duration = Field(
        1800, gt=0, description="How long an order may stay unpaid."
    )
    cart_ttl_seconds: Duration = Field(
        900, gt=0, description="How long a cart and its reservations last after a change."
    )
    cart_max_seconds: Duration = Field(
        3600,
        gt=0,
        description="How long a cart and its reservations last at most, however often it is changed.",
    )
    cart_max_quantity: int = Field(
        10,
        ge=1,
        description="How many of one physical game a buyer holds at most, in cart and unpaid orders together.",
    )
    allocation_ttl_seconds: Duration = Field(
        1800, gt=0, description="How long allocated stock waits for the payment."
    )
    platform_fee_bps: int = Field(
        1000,
        ge=0,
        le=10_000,
        description="The platform's share of a sale, in basis points (1/100 percent).",
    )
    low_stock: int = Field(
        5, ge=0, description="A seller is notified when orders leave no more units than this."
    )
