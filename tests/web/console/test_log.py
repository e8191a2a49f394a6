"""Looking through the log in the console."""

from urllib.parse import urlencode
from uuid import uuid4

from tests.api.test_buying import buy
from tests.support.shops.gateway import Person, Shop
from tests.web.console.conftest import Operator
from tests.web.console.following import following
from tests.web.test_pages import must_be_strict
from web.app import FrontDoor


async def event_of(auditor: Person, **wanted: str) -> dict[str, object]:
    """The latest event that matches."""
    answer = await auditor.get("/api/v1/audit/log", params={**wanted, "limit": 1})
    return dict(answer.json()["items"][0])


async def test_events_are_found_by_what_is_in_them(
    shop: Shop, operator: Operator, seller: Person
) -> None:
    title = f'Quiet "<b>{uuid4().hex}</b>" משחק'
    game = await shop.game(seller, title=title)
    browser = await operator("AUDITOR")

    for query in (
        {"text": title.upper()},
        {"stream_id": game["id"]},
        {"actor": f"user:{seller.id}", "name": "game.*"},
    ):
        page = await browser.get(f"/console/log?{urlencode(query)}")
        assert "game.created.v1" in page.text, query
        assert "<b>" not in page.answer.text
        must_be_strict(page)

    nothing = await browser.get("/console/log?name=no.such.*")
    assert "No event here is like that." in nothing.text
    assert "Looked at positions 1 to" in nothing.text


async def test_older_events_are_on_further_pages(shop: Shop, operator: Operator) -> None:
    browser = await operator("AUDITOR")
    for _ in range(51):
        await shop.register()
    first = await browser.get("/console/log?name=user.registered.*")
    second = await browser.get(first.links["Older events"])
    positions = [
        [int(text) for text, link in page.links.items() if link == f"/console/events/{text}"]
        for page in (first, second)
    ]
    assert len(positions[0]) == 50
    assert positions[1]
    assert max(positions[1]) < min(positions[0])


async def test_a_filter_that_makes_no_sense_is_refused_with_words(
    shop: Shop, operator: Operator
) -> None:
    browser = await operator("AUDITOR")
    refused = {
        "stream_id=x": "Copy it as a whole",
        "since=yesterday": "neither a position of the log nor a time",
        "until=99999999": "The log does not go that far yet.",
    }
    for query, told in refused.items():
        page = await browser.get(f"/console/log?{query}")
        assert (page.status, told in page.text) == (422, True), query
    assert (await browser.get("/console/log?cursor=x")).status == 422


async def test_events_of_a_time_without_a_zone_are_those_of_utc(
    shop: Shop, operator: Operator, seller: Person
) -> None:
    game = await shop.game(seller)
    browser = await operator("AUDITOR")

    since = await browser.get("/console/log?name=game.*&since=2020-01-01+16:40")
    until = await browser.get("/console/log?name=game.*&until=2020-01-01+16:40")

    assert game["id"][:8] in since.text
    assert game["id"][:8] not in until.text


async def test_new_events_come_while_the_log_is_looked_at(
    shop: Shop, site: FrontDoor, operator: Operator, seller: Person
) -> None:
    browser = await operator("AUDITOR")
    page = await browser.get("/console/log?live=1&name=game.*")
    (url,) = [given["sse-connect"] for _, given in page.elements if "sse-connect" in given]
    async with following(site, browser, url) as stream:
        game = await shop.game(seller)
        await shop.register()
        assert game["id"][:8] in await stream.until("game.created.v1")


# -- one event -------------------------------------------------------------------------------------


async def test_an_event_shows_its_causes_and_effects_over_streams(
    shop: Shop, operator: Operator, buyer: Person, seller: Person, auditor: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()
    browser = await operator("AUDITOR")
    completed = await event_of(auditor, stream_id=order["order_id"], name="order.completed.*")

    page = await browser.get(f"/console/events/{completed['position']}")

    assert page.title.startswith("order.completed.v1")
    for name in ("payment.requested.v1", "payment.transaction.completed.v1", "order.completed.v1"):
        assert name in page.links, name
    assert order["payment_id"][:8] in page.text
    must_be_strict(page)

    created = await event_of(auditor, stream_id=order["order_id"], name="order.created.*")
    page = await browser.get(f"/console/events/{created['position']}")
    _, _, beside = page.text.partition("Of the same request")
    assert "payment.requested.v1" in beside


async def test_personal_fields_are_shown_to_an_admin_who_says_why_and_that_is_recorded(
    shop: Shop, operator: Operator, buyer: Person, auditor: Person
) -> None:
    registered = await event_of(auditor, stream_id=str(buyer.id), name="user.registered.*")
    path = f"/console/events/{registered['position']}"

    reading = await (await operator("AUDITOR")).get(path)
    assert "encrypted" in reading.text
    assert path not in [form.action for form in reading.forms]

    admin = await operator("ADMIN")
    closed = await admin.get(path)
    assert buyer.email not in closed.text
    silent = await admin.send(closed.form(path), reason="")
    assert silent.status == 422
    assert buyer.email not in silent.text

    opened = await admin.send(closed.form(path), reason="A complaint by mail")
    assert buyer.email in opened.text
    made = await event_of(auditor, name="disclosure.made.*")
    assert made["payload"] == {
        "subject_kind": "event",
        "subject_id": registered["event_id"],
        "person_ids": [str(buyer.id)],
        "reason": "A complaint by mail",
    }


async def test_any_id_leads_to_its_page(
    shop: Shop, operator: Operator, buyer: Person, seller: Person, auditor: Person
) -> None:
    order = (await buy(buyer, await shop.game(seller))).json()
    browser = await operator("AUDITOR")
    created = await event_of(auditor, stream_id=order["order_id"], name="order.created.*")
    for asked, path in (
        (order["order_id"], f"/console/orders/{order['order_id']}"),
        (order["payment_id"], f"/console/streams/{order['payment_id']}"),
        (created["event_id"], f"/console/events/{created['position']}"),
        (created["position"], f"/console/events/{created['position']}"),
        (created["correlation_id"], "/console/log"),
    ):
        page = await browser.get(f"/console/find?id={asked}")
        assert (page.path, page.status) == (path, 200), asked
    missing = await browser.get("/console/find?id=%3Cb%3E../..%2F")
    assert missing.status == 404
    assert "Nothing found" in missing.text


async def test_an_id_may_be_spelled_in_any_way(
    shop: Shop, operator: Operator, buyer: Person, seller: Person, auditor: Person
) -> None:
    order_id = (await buy(buyer, await shop.game(seller))).json()["order_id"]
    created = await event_of(auditor, stream_id=order_id, name="order.created.*")
    event_id = str(created["event_id"])
    browser = await operator("AUDITOR")
    for spelled in (str.upper, lambda text: text.replace("-", ""), "urn:uuid:{}".format):
        event = await browser.get(f"/console/find?id={spelled(event_id)}")
        assert (event.path, event.status) == (f"/console/events/{created['position']}", 200)
        for order in (
            await browser.get(f"/console/find?id={spelled(order_id)}"),
            await browser.get(f"/console/orders?id={spelled(order_id)}"),
        ):
            assert (order.path, order.status) == (f"/console/orders/{order_id}", 200)
        story = await browser.get(f"/console/orders/{spelled(order_id)}")
        assert story.status == 200
