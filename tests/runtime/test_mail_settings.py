"""A mail server's URL is checked when the program starts, and its password is not shown."""

import pytest
from pydantic import ValidationError

from runtime.settings import Settings
from runtime.settings.variables import rows

SERVER = "smtp://shop:hunter2@mx.example:587"


@pytest.mark.parametrize(
    "url", ["mx.example:587", "http://mx.example", "smtp://", "smtps:///mx.example"]
)
def test_an_address_of_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="smtp_url"):
        Settings(smtp_url=url, mail_from="shop@example.com")


@pytest.mark.parametrize("sender", ["", "Shop", "Shop <shop>", "@example.com"])
def test_mail_needs_a_sender(sender: str) -> None:
    with pytest.raises(ValidationError, match="mail_from") as caught:
        Settings(smtp_url=SERVER, mail_from=sender)
    assert "hunter2" not in str(caught.value)


def test_the_servers_password_is_masked() -> None:
    settings = Settings(
        smtp_url=SERVER,
        mail_from="Shop <shop@example.com>",
        push_url="https://a:hunter2@push.example",
    )
    shown = {variable: value for variable, value, _, _ in rows(settings)}
    assert shown["LUDOTECA_SMTP_URL"] == "smtp://shop:********@mx.example:587"
    assert "hunter2" not in str(shown)
