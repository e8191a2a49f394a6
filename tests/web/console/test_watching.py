"""The console's pages of tasks, events and the self-audit."""

from uuid import uuid4

from commands.acts import Asked
from commands.caller import SYSTEM
from domain.alerts import Seen
from tests.support.rebuilds import rebuilds_standing
from tests.support.shops.gateway import Person, Shop
from tests.web.console.operators import Operator, eventually


async def test_what_operators_did_is_a_timeline(
    shop: Shop, admin_browser: Operator, auditor_browser: Operator
) -> None:
    browser = admin_browser.browser
    path = "/console/projections/library"
    page = await browser.get(path)
    page = await browser.send(page.form(f"{path}/pause"), reason="الصيانة <b>now</b>")
    await browser.send(page.form(f"{path}/resume"), reason="it is over")

    async def is_told() -> bool:
        page = await auditor_browser.browser.get("/console/acts?target=library")
        return "الصيانة <b>now</b>" in page.text and "Projection: resume" in page.text

    await eventually(is_told)
    none = await browser.get("/console/acts?act=backup.make")
    assert "Nobody did anything like that." in none.text
    wrong = await browser.get("/console/acts?since=yesterday")
    assert wrong.status == 422


async def test_a_task_is_under_way_in_the_timeline_until_it_has_ended(
    shop: Shop, admin_browser: Operator
) -> None:
    browser, timeline = admin_browser.browser, "/console/acts?target=orders"
    path = "/console/projections/orders"
    with rebuilds_standing(shop.core.url, "orders"):
        page = await browser.get(path)
        await browser.send(page.form(f"{path}/rebuilds"), reason="to see it go on")
        page = await browser.until(timeline, lambda page: "to see it go on" in page.text)
        assert "Under way" in page.text
        assert 'hx-trigger="every 2s"' in page.answer.text
        assert "Rebuild of orders" in (await browser.get(page.links["Watch it"])).text
    page = await browser.until(timeline, lambda page: "affected" in page.text)
    assert "hx-trigger" not in page.answer.text
    assert "What came of it" in page.links


async def test_what_nobody_saw_end_says_so(shop: Shop, auditor_browser: Operator) -> None:
    asked = Asked("the old key")
    await shop.commands.acts.begin(SYSTEM, "keys.erase", "to be forgotten", asked)
    await shop.commands.acts.give_up(SYSTEM, asked.act_id)
    page = await auditor_browser.browser.until(
        "/console/acts?act=keys.*&status=INTERRUPTED",
        lambda page: "Its process died, or could not record its end" in page.text,
    )
    assert "Not seen to end" in page.text


async def test_no_alert_is_open_in_a_new_shop(shop: Shop, auditor_browser: Operator) -> None:
    page = await auditor_browser.browser.get("/console/alerts")
    assert page.status == 200
    assert "No alert is open." in page.text
    assert (await auditor_browser.browser.get("/console/alerts?status=ALL")).status == 200


async def test_an_alert_says_what_to_do_and_is_acknowledged_with_a_note(
    shop: Shop, admin_browser: Operator, auditor_browser: Operator
) -> None:
    labels, summary = {"instance": uuid4().hex}, "a worker <is> down"
    seen = Seen("alertmanager", "ProcessDown", labels, "critical", summary, "processdown")
    await shop.commands.alerts.raise_alert(seen)
    browser, path = admin_browser.browser, f"/console/alerts/{seen.alert_id}/acknowledge"

    page = await browser.until("/console/alerts", lambda page: summary in page.text)
    assert "What to do docs/runbooks/alerts.md#processdown" in page.text
    read = await auditor_browser.browser.get("/console/alerts")
    assert path not in {form.action for form in read.forms}

    silent = await browser.send(page.form(path), note=" ")
    assert (silent.status, "Say what is being done" in silent.text) == (422, True)
    assert "It is acknowledged" in (await browser.send(page.form(path), note="I look")).text
    page = await browser.until("/console/alerts", lambda page: "I look" in page.text)
    assert path not in {form.action for form in page.forms}


async def test_the_shop_is_built_as_it_was_and_dropped(
    shop: Shop, seller: Person, admin_browser: Operator
) -> None:
    await shop.game(seller)
    position = await shop.core.log.head()
    browser = admin_browser.browser
    page = await browser.get("/console/tasks")
    form = page.form("/console/tasks/replays")
    why = {"reason": "the auditor asks"}
    odd = await browser.send(form, moment="tomorrow", **why)
    assert (odd.status, 'id="moment-error"' in odd.answer.text) == (422, True)
    unsaid = await browser.send(form, moment=str(position), reason=" ")
    assert (unsaid.status, "Say why" in unsaid.text) == (422, True)
    task = await browser.send(form, moment=str(position), **why)
    assert task.path.startswith("/console/tasks/")
    assert f"The shop at position {position}" in task.text

    async def is_done() -> bool:
        return "Done" in (await browser.get(task.path)).text

    await eventually(is_done)
    page = await browser.get("/console/tasks")
    drop = f"/console/tasks/replays/{position}/drop"
    assert (await browser.send(page.form(drop), reason="")).status == 422
    dropped = await browser.send(page.form(drop), reason="it is not needed any more")
    assert f"The replay of position {position} is dropped." in dropped.text
    assert drop not in {form.action for form in dropped.forms}


async def test_what_would_have_been_is_decided_again(shop: Shop, auditor_browser: Operator) -> None:
    browser = auditor_browser.browser
    form = (await browser.get("/console/tasks")).form("/console/tasks/whatif")
    given = {"from": "2020-01-01T00:00", "reason": "a lower fee is discussed"}
    nothing = await browser.send(form, **given)
    assert nothing.status == 422
    assert "platform_fee_bps" in nothing.text
    task = await browser.send(form, **given, platform_fee_bps="0")

    async def is_done() -> bool:
        return "postings were decided again" in (await browser.get(task.path)).text

    await eventually(is_done)
    acts = await browser.get("/console/acts?act=whatif.*")
    assert "a lower fee is discussed" in acts.text


async def test_events_are_found_by_their_meaning(shop: Shop, auditor_browser: Operator) -> None:
    browser = auditor_browser.browser
    page = await browser.get("/console/catalog?q=disclosure")
    assert "disclosure.made.v1" in page.text
    assert "order.created.v1" not in page.text
    assert "No event is like that" in (await browser.get("/console/catalog?q=nonesuch")).text


async def test_what_does_not_hold_is_shown(shop: Shop, auditor_browser: Operator) -> None:
    await shop.commands.findings.open("money_is_balanced", "1234", "it does not add up", 1)
    browser = auditor_browser.browser

    async def is_shown() -> bool:
        page = await browser.get("/console/self-audit")
        return "it does not add up" in page.text and "Nothing has been looked at yet" in page.text

    await eventually(is_shown)
    assert (await browser.get("/console/self-audit?all=yes")).status == 200
