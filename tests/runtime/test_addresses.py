"""The addresses at which an instance's own processes reach each other, whatever address the API
listens on."""

import pytest

from runtime.settings import Settings


@pytest.mark.parametrize(
    ("host", "api", "provider_host", "provider"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000", "127.0.0.1", "http://127.0.0.1:9000"),
        ("localhost", "http://localhost:8000", "127.0.0.1", "http://127.0.0.1:9000"),
        ("192.168.1.5", "http://192.168.1.5:8000", "127.0.0.1", "http://127.0.0.1:9000"),
        ("::1", "http://[::1]:8000", "127.0.0.1", "http://127.0.0.1:9000"),
        ("0.0.0.0", "http://127.0.0.1:8000", "0.0.0.0", "http://127.0.0.1:9000"),
        ("::", "http://[::1]:8000", "::", "http://[::1]:9000"),
    ],
)
def test_processes_find_each_other(host: str, api: str, provider_host: str, provider: str) -> None:
    settings = Settings(
        host=host,
        port=8000,
        public_url="",
        provider_url="",
        provider_port=0,
        payment_webhook_url="",
    )

    assert (settings.local_url, settings.api_url) == (api, api)
    assert settings.webhook_url == f"{api}/api/v1/payments/webhook"
    assert (settings.provider_host, settings.provider_address) == (provider_host, provider)


def test_the_public_address_is_for_clients_only() -> None:
    settings = Settings(host="0.0.0.0", port=8000, public_url="https://shop.example/")

    assert (settings.api_url, settings.local_url) == (
        "https://shop.example",
        "http://127.0.0.1:8000",
    )
