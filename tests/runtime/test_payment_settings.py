"""The payment provider, by settings."""

import pytest
from pydantic import ValidationError

from runtime.settings import Settings
from runtime.supervision.supervisor import _commands


def test_stripe_needs_its_key() -> None:
    with pytest.raises(
        ValidationError, match="Stripe's secret key is needed with LUDOTECA_PAYMENT_PROVIDER=stripe"
    ):
        Settings(payment_provider="stripe")


def test_stripe_needs_the_secret_of_its_webhook() -> None:
    with pytest.raises(ValidationError, match="the webhook's signing secret is needed"):
        Settings(payment_provider="stripe", stripe_api_key="sk_test_123")


def test_the_simulated_provider_runs_only_where_it_takes_the_money() -> None:
    assert "provider" in _commands(Settings())
    assert "provider" not in _commands(Settings(provider_url="http://elsewhere"))
    stripe = Settings(
        payment_provider="stripe", stripe_api_key="sk_test_123", payment_webhook_secrets="whsec_1"
    )
    assert "provider" not in _commands(stripe)


def test_the_simulated_carrier_runs_unless_a_real_one_shares_a_secret() -> None:
    assert "carrier" in _commands(Settings())
    assert "carrier" not in _commands(Settings(carrier_webhook_secrets="whsec_1"))
    assert Settings(port=9000).carrier_address == "http://127.0.0.1:12000"
