"""`ludoteca admin create`."""

import asyncio

import pytest

from commands.caller import SYSTEM
from runtime.settings import Settings
from runtime.wiring.core import open_core
from tests.support.shops.commands import Ludoteca, Shop

PASSWORD = "correct horse battery"


def _account_type(email: str, password: str = PASSWORD) -> str:
    """Log in; returns the type of the account."""

    async def log_in() -> str:
        async with open_core(Settings()) as core:
            return (
                await core.commands.logins.log_in(SYSTEM, email=email, password=password)
            ).value.user.account_type

    return asyncio.run(log_in())


@pytest.mark.parametrize("account_type", ["ADMIN", "AUDITOR", "SERVICE"])
def test_an_account_of_each_type_can_log_in(
    ludoteca: Ludoteca, shop: Shop, account_type: str
) -> None:
    result = ludoteca(
        "admin",
        "create",
        "--email",
        "ana@example.org",
        "--type",
        account_type,
        stdin=PASSWORD + "\n",
    )
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert _account_type("ana@example.org") == account_type


def test_the_password_may_come_from_the_environment_or_the_command_line(
    ludoteca: Ludoteca, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ludoteca.json("admin", "create", "--email", "ana@example.org", "--password", PASSWORD)
    assert made["account_type"] == "ADMIN"
    monkeypatch.setenv("LUDOTECA_NEW_PASSWORD", PASSWORD)
    assert ludoteca("admin", "create", "--email", "ben@example.org").exit_code == 0
    assert _account_type("ana@example.org") == _account_type("ben@example.org") == "ADMIN"


def test_an_email_that_has_an_account_is_refused(ludoteca: Ludoteca, shop: Shop) -> None:
    assert ludoteca("admin", "create", "--email", "ana@example.org", stdin=PASSWORD).exit_code == 0
    result = ludoteca("admin", "create", "--email", "Ana@example.org", stdin=PASSWORD)
    assert result.exit_code == 1
    assert "email_taken" in result.stderr


@pytest.mark.parametrize(
    ("email", "password", "code"),
    [
        ("ana@example.org", "short", "weak_password"),
        ("ana", PASSWORD, "invalid_email"),
        ("a@b.org", "", "weak_password"),
    ],
)
def test_an_account_that_will_not_do_is_refused(
    ludoteca: Ludoteca, shop: Shop, email: str, password: str, code: str
) -> None:
    result = ludoteca("admin", "create", "--email", email, stdin=password)
    assert result.exit_code == 2
    assert code in result.stderr


def test_buyers_open_their_accounts_themselves(ludoteca: Ludoteca, shop: Shop) -> None:
    assert (
        ludoteca(
            "admin", "create", "--email", "a@b.org", "--type", "BUYER", stdin=PASSWORD
        ).exit_code
        == 2
    )
