"""`ludoteca settings`."""

import pytest

from runtime.settings import Settings
from tests.support.shops.commands import Ludoteca


def test_every_setting_is_listed_with_value_default_and_meaning(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_PORT", "8123")
    found = {row["variable"]: row for row in ludoteca.json("settings")}
    assert found.keys() == {f"LUDOTECA_{name.upper()}" for name in Settings.model_fields}
    assert (found["LUDOTECA_PORT"]["value"], found["LUDOTECA_PORT"]["default"]) == ("8123", "8000")
    assert all(row["meaning"] for row in found.values())
    table = ludoteca("settings").stdout
    assert all(name in table for name in found)


def test_secrets_are_masked_everywhere(ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", "postgresql://shop:hunter22@db:5432/shop")
    monkeypatch.setenv("LUDOTECA_ADMIN_PASSWORD", "hunter22hunter22")
    monkeypatch.setenv("LUDOTECA_PAYMENT_WEBHOOK_SECRETS", "hunter22,hunter22")
    for form in ([], ["--json"], ["--markdown"]):
        assert "hunter22" not in ludoteca("settings", *form).output
    assert "postgresql://shop:********@db:5432/shop" in ludoteca("settings").stdout


def test_the_page_for_the_documentation_does_not_depend_on_what_is_set(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ludoteca("settings", "--markdown").stdout
    monkeypatch.setenv("LUDOTECA_PORT", "8123")
    assert ludoteca("settings", "--markdown").stdout == page
    assert "| `LUDOTECA_PORT` | `8000` | Port that the API listens on. |" in page.splitlines()


def test_a_misspelt_variable_is_pointed_out(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_PROT", "8123")
    result = ludoteca("settings")
    assert result.exit_code == 0
    assert "LUDOTECA_PROT is no setting (did you mean LUDOTECA_PORT?)" in result.stderr
