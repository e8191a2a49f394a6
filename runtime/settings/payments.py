"""The payment provider, the fiscal operator and the carrier."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from runtime.settings.listening import ListeningSettings
from runtime.settings.values import Duration, Seconds, beside, checked, http_url, is_wildcard, split


class PaymentSettings(ListeningSettings):
    """The payment provider, the fiscal operator and the carrier."""

    payment_provider: Literal["simulated", "stripe"] = Field(
        "simulated", description="The provider of card payments."
    )
    stripe_api_key: SecretStr = Field(
        SecretStr(""), description="Stripe's secret key (sk_…), required with Stripe."
    )
    stripe_api_base: str = Field(
        "", description="URL of Stripe's API, if another, such as stripe-mock."
    )
    payment_return_url: str = Field(
        "",
        description="Where the provider sends buyers back to after 3-D Secure. Empty: with Stripe, the client goes on with Stripe.js; with the simulated provider, the shop's page /paid.",
    )
    provider_url: str = Field(
        "", description="The simulated payment provider's API. Empty: the one that `run` starts."
    )
    provider_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the simulated payment provider. 0: PORT + 1000, or a free one.",
    )
    provider_public_url: str = Field(
        "",
        description="Where buyers reach the pages of the simulated provider (to pay, 3-D Secure), if elsewhere.",
    )
    provider_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the simulated provider's API, asked for unless it listens on this machine only. Empty: one is made.",
    )
    payment_webhook_url: str = Field(
        "",
        description="Where the simulated provider sends its webhooks. Empty: to this instance's API.",
    )
    payment_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Secrets of the provider's webhook (Stripe's: whsec_…), comma separated (several while rotating). Empty: one is made.",
    )
    carrier_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Secrets of the parcel carrier's webhook, comma separated (several while rotating). Empty: one is made.",
    )
    carrier_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the simulated carrier, which runs without LUDOTECA_CARRIER_WEBHOOK_SECRETS. 0: PORT + 3000, or a free one.",
    )
    carrier_shop_url: str = Field(
        "",
        description="The API to which the simulated carrier sends its notices. Empty: this instance's.",
    )
    fiscal_url: str = Field(
        "", description="The fiscal operator's API. Empty: the simulated one that `run` starts."
    )
    fiscal_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the simulated fiscal operator. 0: PORT + 2000, or a free one.",
    )
    fiscal_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the fiscal operator's API; the simulated one asks for it unless it listens on this machine only. Empty: one is made.",
    )
    fiscal_public_url: str = Field(
        "", description="Where people reach the simulated fiscal operator's receipts, if elsewhere."
    )
    payment_timeout_seconds: Duration = Field(
        5.0,
        gt=0,
        description="How long the payment provider and the fiscal operator may take to answer a call.",
    )
    payment_retry_seconds: Seconds = Field(
        (0.5, 2.0, 8.0, 30.0),
        description="Pauses between tries of a payment, comma separated; then it is a dead letter.",
    )

    @field_validator(
        "payment_webhook_secrets", "carrier_webhook_secrets", "payment_retry_seconds", mode="before"
    )
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return split(value)

    @field_validator(
        "stripe_api_base",
        "provider_url",
        "provider_public_url",
        "carrier_shop_url",
        "fiscal_url",
        "fiscal_public_url",
    )
    @classmethod
    def _base_addresses(cls, value: str) -> str:
        return checked(value, "http", "https", base=True)

    @field_validator("payment_webhook_url")
    @classmethod
    def _webhook_address(cls, value: str) -> str:
        return checked(value, "http", "https")

    @field_validator("payment_return_url")
    @classmethod
    def _returned_to(cls, value: str) -> str:  # an app may have its own scheme
        return checked(value)

    @field_validator("stripe_api_key")
    @classmethod
    def _key_of_stripe(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if info.data.get("payment_provider") == "stripe" and not value.get_secret_value():
            raise ValueError("Stripe's secret key is needed with LUDOTECA_PAYMENT_PROVIDER=stripe")
        return value

    @field_validator("payment_webhook_secrets")
    @classmethod
    def _secrets_of_stripe(
        cls, value: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        if info.data.get("payment_provider") == "stripe" and not value:
            raise ValueError(
                "the webhook's signing secret is needed with LUDOTECA_PAYMENT_PROVIDER=stripe"
            )
        return value

    @property
    def provider_host(self) -> str:
        """The address that the simulators listen on. Only this machine needs to reach them, unless
        the API listens on all addresses."""
        return self.host if is_wildcard(self.host) else "127.0.0.1"

    @property
    def provider_is_published(self) -> bool:
        """Whether other machines can reach the simulated payment provider and fiscal operator."""
        return self.provider_host != "127.0.0.1"

    @property
    def provider_address(self) -> str:
        """The simulated payment provider's API."""
        return self.provider_url.rstrip("/") or http_url(
            self.provider_host, self.provider_port or beside(self.port, 1000)
        )

    @property
    def fiscal_address(self) -> str:
        """The fiscal operator's API."""
        return self.fiscal_url.rstrip("/") or http_url(
            self.provider_host, self.fiscal_port or beside(self.port, 2000)
        )

    @property
    def provider_listens_on(self) -> int:
        """The port of the simulated payment provider when it runs on its own."""
        return urlsplit(self.provider_address).port or beside(self.port, 1000)

    @property
    def fiscal_listens_on(self) -> int:
        """The port of the simulated fiscal operator when it runs on its own."""
        return urlsplit(self.fiscal_address).port or beside(self.port, 2000)

    @property
    def carrier_is_simulated(self) -> bool:
        """Whether parcels go by the simulated carrier: a real one shares a secret with the shop."""
        return not self.carrier_webhook_secrets

    @property
    def carrier_listens_on(self) -> int:
        """The port of the simulated carrier."""
        return self.carrier_port or beside(self.port, 3000)

    @property
    def carrier_address(self) -> str:
        """The simulated carrier's page."""
        return http_url(self.provider_host, self.carrier_listens_on)

    @property
    def webhook_url(self) -> str:
        """Where the simulated provider sends its webhooks."""
        return self.payment_webhook_url or f"{self.local_url}/api/v1/payments/webhook"
