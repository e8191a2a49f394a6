"""Evidence bundles over HTTP: what is in them, and that no change of one goes unnoticed."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from adapters.webhooks import signature as webhooks
from eventstore.proofs.keys import known_keys, signing_keys
from eventstore.proofs.notes import PublicKey, SigningKey, parse, sign
from eventstore.proofs.origin import origin
from eventstore.proofs.signing import sign_checkpoint
from queries.bundles import contents
from queries.bundles.checking import BadBundle, CheckedBundle, check
from queries.trace.flow import flow_of
from runtime.wiring.codec import codec
from tests.support.servers.provider import SECRET
from tests.support.shops.gateway import CARD, Person, Shop

Files = dict[str, bytes]


async def _bought(shop: Shop, buyer: Person, seller: Person) -> str:
    """A paid order, whose receipt and mails have come."""
    game = await shop.game(seller, title="<b>Gris & Co</b>")
    answer = await buyer.post(
        "/api/v1/orders",
        json={"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}},
        headers={"Prefer": "wait=10"},
    )
    assert answer.json()["status"] == "COMPLETED", answer.text
    order_id = str(answer.json()["order_id"])

    async def names() -> set[str]:
        return set(await _names(shop, order_id))

    wanted = {
        *("payment.fiscal.receipt.created.v1", "ledger.transaction_posted.v1"),
        *("notification.sent.v1", "library.game.added.v1"),
    }
    await shop.eventually(names, lambda found: wanted <= found)
    return order_id


async def _names(shop: Shop, order_id: str) -> list[str]:
    return [env.name for env in (await flow_of(shop.core.log, order_id)).events]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def order(shop: Shop) -> AsyncIterator[str]:
    buyer, seller = await shop.register(), await shop.register("SELLER")
    yield await _bought(shop, buyer, seller)


async def _keys(shop: Shop) -> list[PublicKey]:
    async with shop.core.log.pool.connection() as conn:
        name = await origin(conn)
        assert name is not None
        return [known.key for known in await known_keys(conn, name)]


async def _bundle(shop: Shop, auditor: Person, subject: str) -> bytes:
    await sign_checkpoint(shop.core.log)
    answer = await auditor.get(f"/api/v1/audit/bundles/{subject}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    return answer.content


def _files(content: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _written(files: Files, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _checked(path: Path, keys: list[PublicKey]) -> CheckedBundle:
    return check(path, keys, codec().meaning)


async def test_a_bundle_has_all_that_belongs_to_an_order_and_nothing_personal(
    shop: Shop, order: str, auditor: Person, tmp_path: Path
) -> None:
    content = await _bundle(shop, auditor, order)
    path = tmp_path / "order.zip"
    path.write_bytes(content)
    checked = _checked(path, await _keys(shop))
    assert (checked.faults, checked.notes) == ([], [])
    assert checked.manifest.subject == contents.Subject("order", UUID(order))

    files = _files(content)
    tables = {
        name: json.loads(files[f"{name}.json"])
        for name in ("events", "ledger", "receipts", "mails")
    }
    assert [row["name"] for row in tables["events"]] == await _names(shop, order)
    assert sum(row["amount_cents"] for row in tables["ledger"] if row["direction"] == "debit") > 0
    assert all(tables.values())
    assert not any("params" in row for row in tables["mails"])
    page = files["summary.html"].decode()
    assert "The order was placed and awaits payment until expires_at" in page
    assert "total cents 1999, currency USD" in page
    assert "title &lt;b&gt;Gris &amp; Co&lt;/b&gt;" in page
    assert "<b>Gris" not in page
    for name in files:
        assert b"@example.com" not in files[name], name


@pytest.fixture
def another_key() -> SigningKey:
    return SigningKey("ludoteca.log/other", b"o" * 32)


def _signed(files: Files, key: SigningKey) -> Files:
    """With a manifest that fits the files, signed by a key."""
    manifest = json.loads(files["manifest.json"])
    others = files.keys() - {"manifest.json", "manifest.sig"}
    manifest["files"] = {name: contents.digest(files[name]) for name in sorted(others)}
    text = contents.formatted(manifest)
    return {
        **files,
        "manifest.json": text,
        "manifest.sig": sign(contents.signed_text(text), [key]).encode(),
    }


async def test_whatever_is_changed_in_a_bundle_is_named(
    shop: Shop, order: str, auditor: Person, tmp_path: Path
) -> None:
    files, keys = _files(await _bundle(shop, auditor, order)), await _keys(shop)
    for name, content in files.items():
        path = _written({**files, name: content + b" "}, tmp_path / "changed.zip")
        faults = _checked(path, keys).faults
        assert any(fault.startswith((name, "manifest")) for fault in faults), name
        if name in {"manifest.json", "manifest.sig"}:
            continue
        without = {other: files[other] for other in files if other != name}
        faults = _checked(_written(without, tmp_path / "less.zip"), keys).faults
        assert f"{name}: missing" in faults
    added = _written({**files, "more.txt": b"x"}, tmp_path / "more.zip")
    assert _checked(added, keys).faults == ["more.txt: added"]


async def test_a_manifest_made_to_fit_is_not_signed_by_the_log(
    shop: Shop, order: str, auditor: Person, tmp_path: Path, another_key: SigningKey
) -> None:
    files = _files(await _bundle(shop, auditor, order))
    files["ledger.json"] = files["ledger.json"].replace(b"1999", b"9999")
    path = _written(_signed(files, another_key), tmp_path / "forged.zip")
    (fault, *more) = _checked(path, await _keys(shop)).faults
    assert fault.startswith("manifest.sig: signed by another key")
    assert more == ["ledger.json: not what the proven events say"]


async def test_nor_does_the_logs_own_key_make_it_say_what_the_events_do_not(
    shop: Shop, order: str, auditor: Person, tmp_path: Path
) -> None:
    files, keys = _files(await _bundle(shop, auditor, order)), await _keys(shop)
    key = (await signing_keys(shop.core.log.pool, keys[-1].name)).current
    summary = files["summary.html"].replace(b"Ledger entries", b"No entries")
    path = _written(_signed({**files, "summary.html": summary}, key), tmp_path / "own.zip")
    assert _checked(path, keys).faults == ["summary.html: not what the proven events say"]


async def test_a_cut_bundle_is_refused(
    shop: Shop, order: str, auditor: Person, tmp_path: Path
) -> None:
    content, keys = await _bundle(shop, auditor, order), await _keys(shop)
    path = tmp_path / "cut.zip"
    for cut in (b"", content[:200], content[:-30], b"x" * 500):
        path.write_bytes(cut)
        with pytest.raises(BadBundle, match="cut or changed"):
            _checked(path, keys)
    inside = bytearray(content)
    inside[len(content) // 2] ^= 1
    path.write_bytes(inside)
    with pytest.raises(BadBundle):
        _checked(path, keys)
    with pytest.raises(BadBundle, match="no signed manifest"):
        _checked(_written({"a.txt": b"x"}, path), keys)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_more_is_unpacked_than_a_zip_lists(tmp_path: Path, method: int) -> None:
    path, size = tmp_path / "bomb.zip", 64 * 1024 * 1024
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("manifest.json", bytes(size))
    content = bytearray(path.read_bytes())
    listed_size = content.rindex(b"PK\x01\x02") + 24
    content[listed_size : listed_size + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadBundle):
            _checked(path, [])
        assert tracemalloc.get_traced_memory()[1] < size / 16
    finally:
        tracemalloc.stop()


def test_a_manifest_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    files = {"manifest.json": b'{"x":' + b"[" * 100_000, "manifest.sig": b"x"}
    with pytest.raises(BadBundle, match="its manifest cannot be read"):
        _checked(_written(files, tmp_path / "deep.zip"), [])


def test_a_name_that_would_drive_a_terminal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="control characters"):
        _checked(_written({"\x1b[2Jholds": b"x"}, tmp_path / "odd.zip"), [])


async def test_a_checkpoint_that_somebody_holds_must_be_the_bundles(
    shop: Shop, order: str, auditor: Person, seller: Person, tmp_path: Path
) -> None:
    path = tmp_path / "order.zip"
    content = await _bundle(shop, auditor, order)
    path.write_bytes(content)
    held = parse(_files(content)["checkpoint.txt"].decode()).checkpoint
    keys = await _keys(shop)
    assert check(path, keys, codec().meaning, held).faults == []
    await shop.game(seller)
    later = parse((await sign_checkpoint(shop.core.log)).note).checkpoint
    (fault,) = check(path, keys, codec().meaning, later).faults
    assert "you hold is of" in fault


async def test_personal_data_is_handed_out_to_an_admin_and_recorded(
    shop: Shop, buyer: Person, seller: Person, auditor: Person, admin: Person, tmp_path: Path
) -> None:
    order_id = await _bought(shop, buyer, seller)
    await sign_checkpoint(shop.core.log)
    path = f"/api/v1/audit/bundles/{order_id}"
    body = {"reason": "court order 12/26"}
    assert (await auditor.post(path, json=body)).status_code == 403
    head = await shop.core.log.head()
    for wrong in ({}, {"reason": ""}, {"reason": " "}):
        assert (await admin.post(path, json=wrong)).status_code == 422
    assert await shop.core.log.head() == head

    answer = await admin.post(path, json=body)
    assert answer.status_code == 200, answer.text
    bundle = tmp_path / "order.zip"
    bundle.write_bytes(answer.content)
    assert _checked(bundle, await _keys(shop)).faults == []
    personal = json.loads(_files(answer.content)["personal.json"])
    assert personal["events"]
    (made,) = await shop.core.log.read_stream(UUID(personal["disclosure_id"]))
    recorded: Any = made.event
    assert made.env.actor == f"user:{admin.id}"
    assert (recorded.reason, str(recorded.subject_id)) == (body["reason"], order_id)
    assert buyer.id in recorded.person_ids


def _noticed(payment_id: str, event_id: str) -> tuple[bytes, dict[str, str]]:
    """A notice of the provider with the buyer's address, and its signed header."""
    about = {
        **{"id": "pi_1", "amount": 1999, "currency": "usd", "receipt_email": "zoe@example.com"},
        "metadata": {"payment_id": payment_id},
    }
    created = int(datetime.now(UTC).timestamp())
    event = {"id": event_id, "type": "payment_intent.processing", "created": created}
    body = json.dumps({**event, "data": {"object": about}}, indent=2).encode()
    return body, {"Stripe-Signature": webhooks.sign(body, SECRET, created)}


async def test_a_notice_is_in_it_as_it_was_received_and_its_signature_can_be_checked(
    shop: Shop, buyer: Person, seller: Person, auditor: Person, admin: Person
) -> None:
    order_id = await _bought(shop, buyer, seller)
    payment_id = (await buyer.get(f"/api/v1/orders/{order_id}")).json()["payment"]["payment_id"]
    body, header = _noticed(payment_id, "evt_1")
    hook = "/api/v1/payments/webhook"
    assert (await shop.client().post(hook, content=body, headers=header)).status_code == 200

    files = _files(await _bundle(shop, auditor, order_id))
    assert not any(b"zoe@example.com" in content for content in files.values())
    notices = json.loads(files["notices.json"])
    assert [each["provider_event_id"] for each in notices] == ["evt_1", "evt_1"]
    assert {"received", "body_bytes"} & notices[1].keys() == {"body_bytes"}
    assert notices[1]["body_bytes"] == len(body)

    answer = await admin.post(f"/api/v1/audit/bundles/{order_id}", json={"reason": "a dispute"})
    personal = json.loads(_files(answer.content)["personal.json"])["events"]
    (kept,) = [each["fields"]["received"] for each in personal if "received" in each["fields"]]
    assert kept["body"].encode() == body
    verifier = webhooks.SignatureVerifier([SECRET])
    verifier.check(kept["body"].encode(), kept["signature"], datetime.now(UTC))


@pytest.mark.parametrize("subject", ["00000000-0000-7000-8000-000000000000", "a person"])
async def test_there_is_no_bundle_of_what_is_not_there_or_of_a_person(
    auditor: Person, buyer: Person, subject: str
) -> None:
    of = str(buyer.id) if subject == "a person" else subject
    answer = await auditor.get(f"/api/v1/audit/bundles/{of}")
    assert (answer.status_code, answer.json()["code"]) == (404, "subject_not_found")


async def test_what_no_checkpoint_has_yet_is_told(
    shop: Shop, buyer: Person, auditor: Person
) -> None:
    wallet = await buyer.post("/api/v1/wallets", json={"currency": "USD"})
    path = f"/api/v1/audit/bundles/{wallet.json()['id']}"
    answer = await auditor.get(path)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_signed_yet")
    await sign_checkpoint(shop.core.log)
    assert (await auditor.get(path)).status_code == 200
