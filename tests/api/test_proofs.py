"""Signed checkpoints and proofs over HTTP, as auditors get them."""

import asyncio
from dataclasses import replace

import pytest

from api.routes import proofs
from eventstore.proofs import documents
from eventstore.proofs.notes import PublicKey, parse
from eventstore.proofs.signing import sign_checkpoint
from queries.audit.proofs import Proofs
from runtime.processes import signing
from tests.support.queues import until, until_so
from tests.support.shops.gateway import Person, Shop

PATHS = ("/checkpoints", "/checkpoints/latest", "/keys", "/proofs/1")


async def test_proofs_are_for_auditors_and_admins(
    shop: Shop, buyer: Person, auditor: Person, admin: Person
) -> None:
    size = (await sign_checkpoint(shop.core.log)).size
    for path in (*PATHS, f"/checkpoints/{size}", f"/consistency?from={size}&to={size}"):
        statuses = [
            (await who.get(f"/api/v1/audit{path}")).status_code for who in (buyer, auditor, admin)
        ]
        assert statuses == [403, 200, 200], path


async def test_an_event_is_proved_to_whoever_has_the_key(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    game = await shop.game(seller)
    created, *_ = await shop.core.log.read_stream(game["id"])
    size = (await sign_checkpoint(shop.core.log)).size
    answer = await auditor.get(f"/api/v1/audit/proofs/{created.env.position}")
    proof = documents.decode(answer.content)
    assert isinstance(proof, documents.InclusionProof)
    assert proof.event.stream_id == created.env.stream_id
    listed = (await auditor.get("/api/v1/audit/keys")).json()["keys"]
    key = PublicKey.parse(listed[-1]["key"])
    assert documents.check(proof, [key]).size == size


async def test_checkpoints_are_listed_page_by_page_and_continue_each_other(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    made = []
    for _ in range(3):
        await shop.game(seller)
        made.append((await sign_checkpoint(shop.core.log)).size)
    path = "/api/v1/audit/checkpoints?limit=2"
    sizes: list[int] = []
    while path and len(sizes) < 3:
        page = await auditor.get(path)
        sizes += [item["size"] for item in page.json()["items"]]
        path = page.headers.get("link", "").split(">")[0][1:]
    assert sizes[:3] == made[::-1]
    latest = (await auditor.get("/api/v1/audit/checkpoints/latest")).json()
    assert parse(latest["note"]).checkpoint.size == latest["size"] == made[-1]

    ends = {"from": str(made[0]), "to": str(made[2])}
    answer = await auditor.get("/api/v1/audit/consistency", params=ends)
    listed = (await auditor.get("/api/v1/audit/keys")).json()["keys"]
    keys = [PublicKey.parse(each["key"]) for each in listed]
    statement = documents.check(documents.decode(answer.content), keys).statement
    assert statement == f"the first {made[0]} of {made[2]} events are the same"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/proofs/{10**9}", 404, "position_not_found"),
        ("/proofs/1?size=999999", 404, "checkpoint_not_found"),
        ("/proofs/0", 422, "invalid_request"),
        (f"/checkpoints/{10**9}", 404, "checkpoint_not_found"),
        ("/checkpoints/none", 422, "invalid_request"),
        ("/consistency?from=5&to=4", 404, "checkpoint_not_found"),
        ("/consistency?from=5", 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_proved_is_told(
    auditor: Person, path: str, status: int, code: str
) -> None:
    answer = await auditor.get(f"/api/v1/audit{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_auditor_has_a_checkpoint_signed_now(
    shop: Shop, seller: Person, buyer: Person, auditor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.game(seller)
    path = "/api/v1/audit/checkpoints"
    assert (await buyer.post(path)).status_code == 403
    answer = await auditor.post(path)
    assert answer.status_code == 201, answer.text
    assert (await auditor.get(f"{path}/{answer.json()['size']}")).json() == answer.json()
    await shop.game(seller)
    monkeypatch.setattr(proofs, "MOST_UNSIGNED", 0)
    answer = await auditor.post(path)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_signed_yet")


async def test_an_event_without_a_checkpoint_is_not_proved_yet(
    shop: Shop, seller: Person, auditor: Person
) -> None:
    await sign_checkpoint(shop.core.log)
    await shop.game(seller)
    head = await shop.core.log.head()
    answer = await auditor.get(f"/api/v1/audit/proofs/{head}")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_signed_yet")


async def test_no_fault_of_a_checkpoint_ends_the_worker(
    shop: Shop, seller: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signing, "ALERT_SECONDS", 0.01)
    monkeypatch.setattr(signing, "LOOK_SECONDS", 0.01)
    settings = shop.core.settings.model_copy(update={"checkpoint_events": 1})
    pool, change = shop.core.log.pool, "UPDATE log.tree_heads SET note = %s WHERE number = %s"
    head = await sign_checkpoint(shop.core.log)
    async with pool.connection() as conn:
        await conn.execute(change, ("no note", head.number))
    working = asyncio.create_task(signing.keep_signing(replace(shop.core, settings=settings)))
    await shop.game(seller)
    await until(lambda: "no checkpoint is signed or written: BadNote" in caplog.text)
    assert not working.done()
    async with pool.connection() as conn:
        await conn.execute(change, (head.note, head.number))
    end = await shop.core.log.head()

    async def has_signed() -> bool:
        return await Proofs(pool).signed() >= end

    await until_so(has_signed)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
