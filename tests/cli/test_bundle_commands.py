"""`ludoteca audit bundle` and `check-bundle`."""

import asyncio
import getpass
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.events import Event
from domain.fulfilment import ShipmentCreated
from domain.ids import notice_id
from domain.notices import About, NoticeKept
from domain.payments import PaymentNoticeReceived, PaymentRequested
from domain.wallets import WalletCreated
from eventstore.log import Metadata, StreamAppend
from eventstore.postgres_log import PostgresLog
from runtime.wiring.codec import codec
from tests.support.events.history import BUYER, ORDER, SELLER, order_created
from tests.support.shops.commands import Ludoteca, Shop


def _wallet(shop: Shop) -> UUID:
    wallet_id = uuid4()
    shop.append(wallet_id, 0, WalletCreated(user_id=uuid4(), currency="USD"))
    return wallet_id


def test_a_wallets_bundle_is_written_and_checked_without_the_log(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.list_games(3)
    wallet_id, file = _wallet(shop), tmp_path / "wallet.zip"
    made = ludoteca.json("audit", "bundle", wallet_id, "--output", file)
    assert (made["subject"], made["events"]) == ({"kind": "wallet", "id": str(wallet_id)}, 1)
    key = ludoteca.json("audit", "keys")[-1]["key"]
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    assert ludoteca.json("audit", "check-bundle", file, "--key", key)["holds"]
    told = ludoteca("audit", "check-bundle", file, "--key", key)
    assert f"holds: 1 events of the wallet {wallet_id}" in told.stdout

    file.write_bytes(file.read_bytes()[:-40])
    answer = ludoteca.json("audit", "check-bundle", file, "--key", key, code=1)
    assert "cut or changed" in answer["faults"][0]
    assert ludoteca("audit", "check-bundle", file).exit_code == 2  # without a key


def test_the_providers_notices_are_in_a_payments_bundle(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    payment_id, file = uuid4(), tmp_path / "payment.zip"
    requested = PaymentRequested(
        buyer_id=uuid4(),
        amount_cents=1999,
        currency="USD",
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    notice = PaymentNoticeReceived(
        provider_event_id="evt_1", type="payment_intent.succeeded", outcome="applied"
    )
    events: list[Event] = [requested, notice]
    shop.append(payment_id, 0, *events)
    assert ludoteca("audit", "bundle", payment_id, "--output", file).exit_code == 0
    with zipfile.ZipFile(file) as archive:
        (row,) = json.loads(archive.read("notices.json"))
    assert (row["provider_event_id"], row["outcome"]) == ("evt_1", "applied")


@pytest.mark.parametrize("about", ["payment", "shipment"])
def test_a_notice_of_another_request_is_in_the_bundle(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, about: About
) -> None:
    subject, file = uuid4(), tmp_path / "evidence.zip"
    first: dict[str, Event] = {
        "payment": PaymentNoticeReceived(provider_event_id="evt_1", type="x", outcome="applied"),
        "shipment": ShipmentCreated(order_id=ORDER, seller_id=SELLER, lines=()),
    }
    shop.append(subject, 0, first[about])
    event_id = "evt_1" if about == "payment" else None
    kept = NoticeKept(
        user_id=BUYER,
        sender="somebody",
        about=about,
        about_id=subject,
        body_bytes=2,
        provider_event_id=event_id,
        withheld="forgotten",
    )
    shop.append(notice_id(subject, event_id), 0, kept)
    assert ludoteca("audit", "bundle", subject, "--output", file).exit_code == 0
    with zipfile.ZipFile(file) as archive:
        row = json.loads(archive.read("notices.json"))[-1]
    assert (row["name"], row["about_id"]) == ("notice.kept.v1", str(subject))


def test_of_many_events_the_latest_are_in_and_the_rest_is_counted(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from queries.bundles import making

    monkeypatch.setattr(making, "MAX_EVENTS", 3)
    payment_id, file = uuid4(), tmp_path / "payment.zip"
    notices = [
        PaymentNoticeReceived(provider_event_id=f"evt_{n}", type="x", outcome="ignored")
        for n in range(7)
    ]
    shop.append(payment_id, 0, *notices)
    made = ludoteca.json("audit", "bundle", payment_id, "--output", file)
    assert (made["events"], made["left_out"]) == (3, 4)
    with zipfile.ZipFile(file) as archive:
        assert "4 earlier events" in archive.read("summary.html").decode()
    key = ludoteca.json("audit", "keys")[-1]["key"]
    assert ludoteca.json("audit", "check-bundle", file, "--key", key)["holds"]


def test_personal_data_is_recorded_with_the_operator(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet_id, file = _wallet(shop), tmp_path / "wallet.zip"
    command = ("audit", "bundle", wallet_id, "--output", file)
    for half in (
        ("--with-personal-data",),
        ("--reason", "a court"),
        ("--with-personal-data", "--reason", " "),
    ):
        assert ludoteca(*command, *half).exit_code == 2
    assert not file.exists()
    assert ludoteca(*command, "--with-personal-data", "--reason", "a court").exit_code == 0
    actor = "SELECT actor FROM log.events WHERE name = 'disclosure.made.v1'"
    assert shop.ask(actor) == f"operator:{getpass.getuser()}"
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("personal.json"))["reason"] == "a court"

    def nobody() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert ludoteca(*command, "--with-personal-data", "--reason", "a court").exit_code == 0
    assert shop.ask(f"{actor} ORDER BY position DESC LIMIT 1") == "operator:unknown"


def test_that_somebody_was_forgotten_is_told(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    async def place_and_forget() -> None:
        async with PostgresLog.open(shop.url, codec(), pool_size=2) as log:
            await log.keys.create([BUYER])
            placed = order_created(shipping_address={"city": "Recife"})
            await log.append([StreamAppend(ORDER, 0, [placed])], Metadata("test"))
            await log.keys.destroy(BUYER)

    asyncio.run(place_and_forget())
    command = ("audit", "bundle", ORDER, "--output", tmp_path / "order.zip")
    told = ludoteca(*command, "--with-personal-data", "--reason", "a court")
    assert told.exit_code == 0
    assert "somebody was forgotten" in " ".join(told.output.split())
    assert "forgotten" not in ludoteca(*command).output


def test_what_is_not_there_has_no_bundle(ludoteca: Ludoteca, shop: Shop, tmp_path: Path) -> None:
    game = shop.list_game("Gris")
    for subject, reason in ((game, "of kind game"), (uuid4(), "nothing of")):
        result = ludoteca("audit", "bundle", subject, "--output", tmp_path / "x.zip")
        assert result.exit_code == 1
        assert reason in " ".join(result.output.split())
    assert not (tmp_path / "x.zip").exists()
