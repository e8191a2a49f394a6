"""Declaring in the console how an event is read that nobody can apply."""

import json
from uuid import UUID, uuid4

import pytest

from domain.catalog import GameUpdated
from eventstore.log import Metadata, StreamAppend
from tests.support.shops.gateway import Person, Shop
from tests.web.browser import Page
from tests.web.console.operators import Operator
from tests.web.test_pages import must_be_strict
from web.console import payloads
from web.console.payloads import BadPayload


async def broken(shop: Shop, seller: Person) -> tuple[str, int]:
    """A game with a title that is none: its id, and the position of that event."""
    game = await shop.game(seller, title="Braid")
    title = GameUpdated(title=["no", "<text>"])  # type: ignore[arg-type]
    game_id = UUID(game["id"])
    (version,) = await shop.core.log.versions([game_id])
    landed = await shop.core.log.append([StreamAppend(game_id, version, [title])], Metadata("test"))
    return str(game_id), landed.position


def actions(page: Page) -> set[str]:
    return {form.action for form in page.forms}


async def test_an_event_is_amended_skipped_and_read_as_recorded_again(
    shop: Shop, seller: Person, admin_browser: Operator, auditor_browser: Operator
) -> None:
    game, position = await broken(shop, seller)
    browser, path = admin_browser.browser, f"/console/amendments/{position}"
    listed = await shop.eventually(
        lambda: browser.get("/console/quarantine"), lambda page: game in page.text
    )
    assert f'href="{path}"' in listed.answer.text

    page = await browser.get(path)
    assert "As it was recorded." in page.text
    assert f"{path}/withdraw" not in actions(page)
    must_be_strict(page)
    form = page.form(f"{path}/amend")
    assert json.loads(form.fields["payload"]) == {"title": ["no", "<text>"]}

    payload = '{\n  "title": "Celeste <3"\n}'
    asked = await browser.send(form, payload=payload, reason="typed wrongly")
    assert asked.status == 200
    assert asked.links["Back, without doing anything"] == path
    for text in ("Read it with another payload?", "Celeste <3", "aggregate game", "games_text"):
        assert text in asked.text, text
    must_be_strict(asked)
    listed = await browser.get("/console/amendments")
    assert path not in listed.links.values(), "nothing is declared before it is confirmed"
    confirm = asked.form(f"{path}/amend")
    done = await browser.send(confirm)
    assert (done.path, done.status) == (path, 200)
    assert "It is read with this payload from now on." in done.text
    assert "typed wrongly" in done.text
    twice = await browser.send(confirm)
    assert twice.status == 200, "a form that is sent twice"

    shown = await shop.eventually(
        lambda: seller.get(f"/api/v1/games/{game}"),
        lambda answer: answer.json().get("title") == "Celeste <3",
    )
    assert shown.status_code == 200
    readable = (await browser.get(path)).form(f"{path}/amend").fields["payload"]
    assert json.loads(readable) == {"title": "Celeste <3"}

    asked = await browser.send(done.form(f"{path}/skip"), reason="it means nothing")
    assert "as if the event were not there" in asked.text
    stale = asked.form(f"{path}/skip")
    assert "It is skipped" in (await browser.send(stale)).text
    late = await browser.send(confirm)
    assert late.status == 409
    assert "Nothing was done" in late.text
    listed = await browser.get("/console/amendments")
    assert "it means nothing" in listed.text
    assert "Skipped" in listed.text

    seen = await auditor_browser.browser.get(path)
    assert seen.status == 200
    assert not [action for action in actions(seen) if action.startswith(path)]
    own = seen.form("/sign-out").fields["csrf"]
    refused = await auditor_browser.browser.send(stale, csrf=own)
    assert refused.status == 403

    page = await browser.get(path)
    asked = await browser.send(page.form(f"{path}/withdraw"), reason="a new release reads it")
    done = await browser.send(asked.form(f"{path}/withdraw"))
    assert "It is read as it was recorded from now on." in done.text


async def test_what_cannot_be_declared_is_told_beside_the_field(
    shop: Shop, seller: Person, admin_browser: Operator
) -> None:
    _, position = await broken(shop, seller)
    browser, path = admin_browser.browser, f"/console/amendments/{position}"
    form = (await browser.get(path)).form(f"{path}/amend")

    wrong = await browser.send(form, payload='{\n  "title":\n  x\n}', reason="a test")
    assert wrong.status == 422
    assert "Line 3" in wrong.text
    assert wrong.form(f"{path}/amend").fields["reason"] == "a test"
    assert '"title":' in wrong.form(f"{path}/amend").fields["payload"]
    assert "Say why" in (await browser.send(form, payload="{}", reason=" ")).text

    asked = await browser.send(form, payload='{"titel": "x"}', reason="a test")
    refused = await browser.send(asked.form(f"{path}/amend"))
    assert refused.status == 422
    assert "titel" in refused.text
    assert any(given.get("id") == "payload-error" for _, given in refused.elements)

    asked = await browser.send(form, payload='{"title": "x"}', reason="y" * 5000)
    assert (await browser.send(asked.form(f"{path}/amend"))).status == 422
    gone = await browser.get(f"/console/amendments/{10**12}")
    assert gone.status == 404
    assert (await browser.get("/console/amendments?position=x")).status == 422
    found = await browser.get(f"/console/amendments?position={position}")
    assert found.path == path
    form.action = f"{path}/forget"
    assert (await browser.send(form, reason="a test")).status == 404


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\r\n  "a": 1,\r\n  b\r\n}', "Line 3, column 3"),
        ("", "Line 1"),
        ("[1]", "is an object"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1, "a": 2}', "the field a is there twice"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be stored"),
        ('{"a": "\\ud800"}', "cannot be stored"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=["line", "empty", "list", "nan", "twice", "infinite", "long", "half", "deep"],
)
def test_a_text_that_is_no_payload_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadPayload) as refused:
        payloads.typed(text)
    assert said in str(refused.value)


def test_a_payload_is_typed_as_it_is_shown() -> None:
    payload = {"title": "משחק <b>", "prices": [{"amount_cents": 1}], "id": str(uuid4())}
    assert payloads.typed(payloads.shown(payload)) == payload
