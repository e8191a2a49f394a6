"""`ludoteca events check` and `ludoteca events catalog`. They need no database."""

from pathlib import Path

import pytest

from runtime.events.docs import shapes
from runtime.events.shapes import encode
from tests.support import ROOT
from tests.support.shops.commands import Ludoteca

FIRST = ROOT / "docs" / "events-release-1.json"


def kept(tmp_path: Path, changed: str = "", into: str = "") -> Path:
    """A file with this release's shapes; in one of its places another text."""
    text = encode(shapes())
    assert text.count(changed) == 1 or not changed
    path = tmp_path / "kept.json"
    path.write_text(text.replace(changed, into) if changed else text, encoding="utf-8")
    return path


def test_what_changed_since_an_earlier_release_is_a_table(ludoteca: Ludoteca) -> None:
    result = ludoteca("events", "check", "--against", FIRST)
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert lines["cart.abandoned.v1"][:2] == ["changed", "BACKWARD"]
    assert lines["cart.currency_changed.v1"] == ["new", "-"]
    assert "cart.completed.v1" not in lines
    assert "0 cannot be read" in result.stderr


def test_as_json_every_event_has_its_level(ludoteca: Ludoteca) -> None:
    report = ludoteca.json("events", "check", "--against", FIRST, "--all")
    assert report["holds"]
    found = {each["event"]: each for each in report["events"]}
    assert found["cart.completed.v1"]["level"] == "FULL"
    assert found["cart.abandoned.v1"]["forward"] == [
        'reason may be "account_closed", "discarded", which is not known'
    ]


def test_nothing_changed_since_this_release(ludoteca: Ludoteca, tmp_path: Path) -> None:
    result = ludoteca("events", "check", "--against", kept(tmp_path))
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["payment.intent_cancelled.v1", "upcast"]
    ]


def test_a_name_that_is_gone_ends_with_one(ludoteca: Ludoteca, tmp_path: Path) -> None:
    path = kept(tmp_path, '"cart.completed.v1"', '"cart.finished.v1"')
    result = ludoteca("events", "check", "--against", path)
    assert result.exit_code == 1
    assert "cart.finished.v1" in result.stdout
    assert "1 cannot be read" in result.stderr
    report = ludoteca.json("events", "check", "--against", path, code=1)
    (lost,) = [each for each in report["events"] if not each["holds"]]
    assert (lost["event"], lost["status"], report["holds"]) == ("cart.finished.v1", "lost", False)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"[]", b'{"release": 1, "events": {}}', b"\xff\xfe", b"[" * 100_000],
    ids=["missing", "empty", "other JSON", "incomplete", "no text", "nested"],
)
def test_a_file_that_holds_no_events_is_refused(
    ludoteca: Ludoteca, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "kept.json"
    if content is not None:
        path.write_bytes(content)
    result = ludoteca("events", "check", "--against", path)
    assert result.exit_code == 2
    assert str(path) in result.stderr


def test_the_catalog_tells_of_an_event_what_the_code_knows(ludoteca: Ludoteca) -> None:
    shown = ludoteca("events", "catalog", "--name", "payment.intent_cancelled.*").stdout
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0] == "payment.intent_cancelled.v2"
    assert "earlier     payment.intent_cancelled.v1" in lines
    assert "decided by  domain.payments.decisions.cancel_intent" in lines
    assert "reactors    deposits, settlement" in lines


def test_the_catalog_marks_optional_and_personal_fields(ludoteca: Ludoteca) -> None:
    shown = ludoteca("events", "catalog", "--name", "user.profile_changed.v1").stdout
    assert "name?*: null | string, region?: null | string" in shown


def test_the_catalog_as_json_has_every_event(ludoteca: Ludoteca) -> None:
    entries = ludoteca.json("events", "catalog")
    assert [each["event"] for each in entries] == sorted(shapes().events)
    assert all(each["meaning"] and each["fields"] is not None for each in entries)


def test_an_event_that_does_not_exist_is_not_in_the_catalog(ludoteca: Ludoteca) -> None:
    result = ludoteca("events", "catalog", "--name", "wallet.create.v1")
    assert result.exit_code == 2
    assert "did you mean wallet.created.v1?" in result.stderr
