"""The console's pages that prove: verification, checkpoints, proofs, bundles, differences."""

import json
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from eventstore.proofs import documents
from eventstore.proofs.notes import PublicKey
from eventstore.proofs.signing import sign_checkpoint
from queries.bundles.checking import check
from runtime.wiring.codec import codec
from tests.api.test_buying import buy
from tests.support.shops.gateway import Person, Shop
from tests.support.tampering import tamper
from tests.web.browser import Browser, Page
from tests.web.console.operators import Operator, eventually
from tests.web.test_pages import must_be_strict
from web.console.differences import SHOWN

PROOFS, BUNDLES, DIFFERENCES = "/console/proofs", "/console/bundles", "/console/differences"


async def keys_of(operator: Operator) -> list[PublicKey]:
    answer = await operator.person.get("/api/v1/audit/keys")
    return [PublicKey.parse(each["key"]) for each in answer.json()["keys"]]


def kept_as(answer: httpx.Response) -> str:
    """The name under which a browser keeps a file."""
    assert answer.status_code == 200, answer.text
    kind, _, name = answer.headers["content-disposition"].partition('; filename="')
    assert kind == "attachment"
    return name.removesuffix('"')


async def test_checkpoints_are_signed_listed_and_handed_out(
    shop: Shop, seller: Person, auditor_browser: Operator
) -> None:
    browser = auditor_browser.browser
    page = await browser.get(PROOFS)
    assert "No checkpoint was signed yet" in page.text
    assert "There is no key yet" in page.text
    sizes = []
    for _ in range(2):
        await shop.game(seller)
        page = await browser.send(page.form(f"{PROOFS}/checkpoints"))
        latest = await auditor_browser.person.get("/api/v1/audit/checkpoints/latest")
        sizes.append(latest.json()["size"])
        assert f"The latest checkpoint has {sizes[-1]:,} events" in page.text
    must_be_strict(page)
    key = (await keys_of(auditor_browser))[-1]
    assert str(key) in page.text

    answer = await browser.client.get(f"{PROOFS}/checkpoints/{sizes[0]}")
    assert kept_as(answer) == f"checkpoint-{sizes[0]}.txt"
    note = await auditor_browser.person.get(f"/api/v1/audit/checkpoints/{sizes[0]}")
    assert answer.text == note.json()["note"]
    assert (await browser.get(f"{PROOFS}/checkpoints/999999")).status == 404

    form = page.form(f"{PROOFS}/consistency")
    assert list(form.fields) == ["from", "to"]
    answer = await browser.client.get(form.action, params=form.fields)
    statement = documents.check(documents.decode(answer.content), [key]).statement
    assert kept_as(answer) == f"proof-{form.fields['from']}-{form.fields['to']}.json"
    assert str(sizes[1]) in statement
    for asked, status, told in (
        ({"from": "5", "to": "999999"}, 404, "There is no signed checkpoint of"),
        ({"from": "", "to": "x"}, 422, "Please look at the marked fields."),
    ):
        page = await browser.get(f"{form.action}?{urlencode(asked)}")
        assert (page.status, told in page.text) == (status, True), page.text


async def test_the_log_is_verified_and_a_fault_is_shown(
    shop: Shop, seller: Person, auditor_browser: Operator
) -> None:
    browser = auditor_browser.browser

    async def verified(told: str) -> Page:
        page = await browser.get(PROOFS)
        page = await browser.send(page.form(f"{PROOFS}/verifications"))
        assert page.path.startswith("/console/tasks/")

        async def is_told() -> bool:
            part = await browser.get(page.path, **{"HX-Request": "true"})
            assert "<html" not in part.answer.text
            return told in part.text

        await eventually(is_told)
        page = await browser.get(PROOFS)
        assert told in page.text
        return page

    game = await shop.game(seller)
    position = (await shop.core.log.read_stream(game["id"]))[-1].env.position
    page = await verified("The log is intact")
    assert "events a second" in page.text
    must_be_strict(page)

    change = "UPDATE log.events SET actor = %s WHERE position = %s"
    tamper(shop.core.url, change, "nobody", position)
    try:
        page = await verified(f"the first fault is at position {position:,}")
    finally:
        tamper(shop.core.url, change, f"user:{seller.id}", position)
    assert f"positions 1 to {position - 1:,}" in page.text


async def test_an_event_is_proved_once_it_is_signed(
    shop: Shop, seller: Person, auditor_browser: Operator
) -> None:
    browser = auditor_browser.browser
    await shop.game(seller)
    position = await shop.core.log.head()
    page = await browser.get(f"/console/events/{position}")
    assert f"check-proof proof-{position}.json" in page.text
    path = page.links["Download the proof"]

    early = await browser.get(path)
    assert early.status == 409
    assert "No proof yet" in early.text
    page = await browser.send(early.form(f"{PROOFS}/checkpoints"))
    assert page.path == f"/console/events/{position}"

    answer = await browser.client.get(page.links["Download the proof"])
    assert kept_as(answer) == f"proof-{position}.json"
    assert json.loads(answer.content)["position"] == position
    proof = documents.decode(answer.content)
    assert documents.check(proof, await keys_of(auditor_browser)).size >= position
    assert (await browser.get("/console/events/999999/proof")).status == 404


async def test_a_bundle_is_made_from_an_orders_story(
    shop: Shop, seller: Person, auditor_browser: Operator, tmp_path: Path
) -> None:
    browser, buyer = auditor_browser.browser, await shop.register()
    order_id = (await buy(buyer, await shop.game(seller))).json()["order_id"]
    story = await browser.get(f"/console/orders/{order_id}")
    form = (await browser.get(story.links["evidence bundle"])).form(BUNDLES)
    assert (form.fields["id"], "personal" in form.fields) == (order_id, False)
    early = await browser.send(form)
    assert early.status == 409
    page = await browser.send(early.form(f"{PROOFS}/checkpoints"))
    assert (page.path, page.form(BUNDLES).fields["id"]) == (BUNDLES, order_id)

    answer = await bundle(shop, browser, form.fields)
    assert kept_as(answer) == f"order-{order_id}.zip"
    path = tmp_path / "order.zip"
    path.write_bytes(answer.content)
    checked = check(path, await keys_of(auditor_browser), codec().meaning)
    assert not checked.manifest.left_out
    refused = await browser.client.post(
        BUNDLES, data={**form.fields, "personal": "yes", "reason": "to see"}
    )
    assert refused.status_code == 403


async def bundle(shop: Shop, browser: Browser, fields: dict[str, str]) -> httpx.Response:
    """The answer to the form, once nothing more happens to its subject."""

    async def made() -> httpx.Response:
        await sign_checkpoint(shop.core.log)
        return await browser.client.post(BUNDLES, data=fields)

    return await shop.eventually(made, lambda answer: answer.status_code != 409)


async def test_a_bundle_with_personal_data_takes_an_admins_reason(
    shop: Shop, seller: Person, admin_browser: Operator
) -> None:
    browser, buyer = admin_browser.browser, await shop.register(name="Ann Aschenbrenner")
    answer = await buyer.post("/api/v1/wallets", json={"currency": "EUR"})
    wallet_id = answer.json()["id"]

    async def is_linked() -> bool:
        page = await browser.get(f"/console/people/{buyer.id}")
        return f"{BUNDLES}?id={wallet_id}" in page.links.values()

    await eventually(is_linked)
    form = (await browser.get(f"{BUNDLES}?id={wallet_id}")).form(BUNDLES)
    page = await browser.send(form, personal="yes", reason=" ")
    assert page.status == 422
    assert "Say why" in page.text

    asked = {**form.fields, "personal": "yes", "reason": "a court asks"}
    answer = await bundle(shop, browser, asked)
    assert kept_as(answer) == f"wallet-{wallet_id}.zip"
    assert b"personal.json" in answer.content
    acts = (await admin_browser.person.get("/api/v1/ops/acts?act=disclosure.make")).json()
    assert acts["items"][0]["reason"] == "a court asks"


@pytest.mark.parametrize(
    ("typed", "status", "told"),
    [
        ("x", 422, "This is not the id of an order"),
        ("", 422, "This is not the id of an order"),
        (str(uuid4()), 404, "There is no bundle of this"),
    ],
    ids=["no id", "nothing", "of nothing"],
)
async def test_a_bundle_of_nothing_is_refused_beside_the_field(
    shop: Shop, auditor_browser: Operator, typed: str, status: int, told: str
) -> None:
    browser = auditor_browser.browser
    page = await browser.send((await browser.get(BUNDLES)).form(BUNDLES), id=typed)
    assert (page.status, told in page.text) == (status, True), page.text
    assert ("aria-describedby", "id-error") in {
        pair for _, given in page.elements for pair in given.items()
    }


async def test_what_changed_is_shown_with_its_events(
    shop: Shop, seller: Person, auditor_browser: Operator
) -> None:
    browser = auditor_browser.browser
    game = await shop.game(seller, title="<b>Portal</b>")
    before = await shop.core.log.head()
    await seller.put(f"/api/v1/games/{game['id']}", json={"title": "פורטל"})
    last = await shop.core.log.head()
    stream = await browser.get(f"/console/streams/{game['id']}")
    page = await browser.get(stream.links["Differences"])
    assert "Choose two moments." in page.text
    about = {"about": "game", "id": game["id"]}

    page = await shown(browser, {"from": str(before), "to": str(last), **about})
    assert page.status == 200
    assert "<b>Portal</b> פורטל" in page.text
    assert "<b>" not in page.answer.text
    assert page.links[str(last)] == f"/console/events/{last}"
    assert "game.updated.v1" in page.links
    must_be_strict(page)

    page = await shown(browser, {"from": str(last), "to": str(last), **about})
    assert "Nothing changed in between." in page.text
    whole = await shown(browser, {"from": str(before), "to": "2999-01-01 00:00"})
    assert game["id"] in whole.text


async def test_many_rows_are_on_several_pages(
    shop: Shop, seller: Person, auditor_browser: Operator
) -> None:
    browser = auditor_browser.browser
    before = await shop.core.log.head()
    games = [(await shop.game(seller))["id"] for _ in range(SHOWN + 1)]
    last = await shop.core.log.head()

    page = await shown(browser, {"from": str(before), "to": str(last)})
    assert f"Rows 1 to {SHOWN} of " in page.text
    seen = [page.text]
    while further := page.links.get("Further rows"):
        page = await browser.get(further)
        seen.append(page.text)
    assert len(seen) > 1
    for game in games:
        assert any(game in text for text in seen)
    positions = {int(link) for link in page.links if link.isdecimal()}
    assert positions <= set(range(before + 1, last + 1))

    beyond = {"from": str(before), "to": str(last), "cursor": "9" * 6}
    assert f"Rows 1 to {SHOWN} of " in (await shown(browser, beyond)).text


async def shown(browser: Browser, asked: dict[str, str]) -> Page:
    return await browser.get(f"{DIFFERENCES}?{urlencode(asked)}")


@pytest.mark.parametrize(
    ("asked", "field", "told"),
    [
        ({"from": "1", "to": ""}, "to", "Say which moment"),
        ({"from": "1", "to": "yesterday"}, "to", "neither a position of the log nor a time"),
        ({"from": "1", "to": "9" * 12}, "to", "The log does not go that far yet."),
        ({"from": "1" * 70, "to": "2"}, "from", "64"),
        ({"from": "2", "to": "1"}, "", "Position 2 comes after position 1."),
        ({"from": "1", "to": "2", "about": "order"}, "id", "Say which one"),
        ({"from": "1", "to": "2", "about": "order", "id": "x"}, "id", "Copy it as a whole"),
        ({"from": "1", "to": "2", "about": "user", "id": str(uuid4())}, "id", "There was none"),
    ],
    ids=["one", "no time", "beyond", "long", "reversed", "of what", "no id", "of nothing"],
)
async def test_what_cannot_be_compared_is_said_beside_its_field(
    shop: Shop, auditor_browser: Operator, asked: dict[str, str], field: str, told: str
) -> None:
    page = await shown(auditor_browser.browser, asked)
    assert page.status == 422
    assert told in page.text
    if field:
        assert f'id="{field}-error"' in page.answer.text
        assert page.answer.text.count("aria-invalid") == 1
