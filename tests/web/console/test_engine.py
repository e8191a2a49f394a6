"""The console's pages about consumers, dead letters and quarantine."""

from uuid import uuid4

from tests.support.shops.gateway import Person, Shop
from tests.support.shops.stuck import killed, poisoned, selected
from tests.web.browser import Browser, Page
from tests.web.console.operators import Operator, eventually
from web.app import FrontDoor


async def test_consumers_are_listed_and_acts_ask_for_a_reason(
    shop: Shop, admin_browser: Operator
) -> None:
    browser = admin_browser.browser
    page = await browser.get("/console/projections")
    assert page.status == 200
    assert {"orders", "users", "settlement"} <= page.links.keys()

    page = await browser.get(page.links["wallets"])
    refused = await browser.send(page.form("/console/projections/wallets/rebuilds"), reason="  ")
    assert refused.status == 422
    assert "Say why" in refused.text


async def test_a_reactor_is_paused_and_goes_on(shop: Shop, admin_browser: Operator) -> None:
    browser, path = admin_browser.browser, "/console/projections/library_grants"
    page = await browser.get(path)
    paused = await browser.send(page.form(f"{path}/pause"), reason="the disk is full")
    assert "It is paused" in paused.text
    assert (await consumer(admin_browser, "library_grants"))["paused"]
    resumed = await browser.send(paused.form(f"{path}/resume"), reason="it is not")
    assert "It goes on" in resumed.text
    assert not (await consumer(admin_browser, "library_grants"))["paused"]


async def consumer(operator: Operator, name: str) -> dict[str, object]:
    return dict((await operator.person.get(f"/api/v1/ops/consumers/{name}")).json())


async def test_a_rebuild_is_watched_to_its_end_and_rolled_back(
    shop: Shop, admin_browser: Operator
) -> None:
    browser = admin_browser.browser
    path = "/console/projections/wallets"
    page = await browser.get(path)
    before = (await consumer(admin_browser, "wallets"))["storage"]
    page = await browser.send(page.form(f"{path}/rebuilds"), reason="to be sure")
    assert "The rebuild has begun." in page.text

    async def is_done() -> bool:
        part = await browser.get(path, **{"HX-Request": "true"})
        assert "<html" not in part.answer.text
        return "The new rows are the same as the live ones" in part.text

    await eventually(is_done)
    after = (await consumer(admin_browser, "wallets"))["storage"]
    assert after != before
    page = await browser.get(path)
    page = await browser.send(page.form(f"{path}/rollback"), reason="to see it")
    assert "before the last rebuild again" in page.text
    assert (await consumer(admin_browser, "wallets"))["storage"] == before

    page = await browser.send((await browser.get(path)).form(f"{path}/comparisons"))

    async def is_compared() -> bool:
        return "rows are what the log gives" in (await browser.get(path)).text

    await eventually(is_compared)


async def test_a_rebuild_whose_rows_differ_is_told_and_not_taken(
    shop: Shop, seller: Person, admin_browser: Operator
) -> None:
    game, browser, path = (
        await shop.game(seller),
        admin_browser.browser,
        "/console/projections/games",
    )
    await shop.client().get(f"/api/v1/games/{game['id']}", headers=await shop.reached())
    storage = (await consumer(admin_browser, "games"))["storage"]
    async with shop.core.log.pool.connection() as conn:
        await conn.execute(
            f"UPDATE read.{storage} SET title = 'Another' WHERE game_id = %s".encode(),
            (game["id"],),
        )

    page = await browser.get(path)
    await browser.send(page.form(f"{path}/rebuilds"), reason="to be sure")

    told = await browser.until(path, lambda page: "differ from the live ones." in page.text)
    assert "Nothing was switched" in told.text
    assert (await consumer(admin_browser, "games"))["storage"] == storage


async def test_an_auditor_sees_and_compares_but_is_offered_no_act(
    shop: Shop, auditor_browser: Operator
) -> None:
    page = await auditor_browser.browser.get("/console/projections/users")
    assert page.status == 200
    actions = {form.action for form in page.forms}
    assert "/console/projections/users/comparisons" in actions
    assert not {each for each in actions if each.endswith(("/pause", "/rebuilds", "/rollback"))}
    assert "An ADMIN can pause it, and rebuild its rows" in page.text
    reactor = await auditor_browser.browser.get("/console/projections/settlement")
    assert "An ADMIN can pause it;" in reactor.text


async def test_nobody_else_enters(shop: Shop, site: FrontDoor) -> None:
    page = await Browser(site).get("/console/dead-letters")
    assert page.path == "/sign-in"


async def test_all_dead_letters_of_a_filter_are_counted_before_they_are_redriven(
    shop: Shop, admin_browser: Operator
) -> None:
    kind = f"kind-{uuid4().hex[:6]}"
    await killed(shop, kind, 3)
    browser = admin_browser.browser
    page = await browser.get(f"/console/dead-letters?kind={kind}")
    assert "3 dead letters" in page.text
    asked = await browser.get(link(page, "Redrive all …"))
    assert "3 dead letters with kind" in asked.text
    assert "will be redriven" in asked.text

    later = await killed(shop, kind, 1)
    form = asked.form("/console/dead-letters/all")
    assert (await browser.send(form, reason="")).status == 422
    done = await browser.send(form, reason="the provider is back")
    assert "3 dead letters redriven." in done.text
    left = await selected(admin_browser.person, "/api/v1/ops/dead-letters", kind=kind)
    assert str(later[0]) in {each["id"] for each in left["items"]}

    again = await browser.send(form, reason="twice")
    assert again.status == 409
    assert "nothing was done" in again.text


async def test_what_discarding_leaves_undone_is_told_before_it_is_done(
    shop: Shop, admin_browser: Operator, auditor_browser: Operator
) -> None:
    kind = f"kind-{uuid4().hex[:6]}"
    first, second, third = await killed(shop, kind, 3)
    browser = admin_browser.browser
    page = await browser.get(f"/console/dead-letters?kind={kind}")
    one = await browser.get(f"/console/dead-letters/discard?id={first}")
    assert "Discard 1 dead letter?" in one.text
    assert "It is not known what waits for this job." in one.text
    form = one.form("/console/dead-letters/discard")
    assert (await browser.send(form, reason=" ")).status == 422
    assert "1 dead letter discarded." in (await browser.send(form, reason="of a test")).text

    every = await browser.get(link(page, "Discard all …"))
    assert "2 dead letters with kind" in every.text
    done = await browser.send(every.form("/console/dead-letters/discard"), reason="all of a test")
    assert "2 dead letters discarded." in done.text
    left = await selected(admin_browser.person, "/api/v1/ops/dead-letters", kind=kind)
    assert left["count"] == 0
    for job_id, reason in ((first, "of a test"), (second, "all of a test"), (third, "all of")):
        timeline = f"/console/acts?act=dead_letter.discard&target={job_id}"
        page = await auditor_browser.browser.until(timeline, lambda page: "Done" in page.text)
        assert reason in page.text
        assert kind in page.text


def link(page: Page, text: str) -> str:
    return page.links[text]


async def test_streams_in_quarantine_are_found_and_tried_again(
    shop: Shop, admin_browser: Operator
) -> None:
    (stream,) = await poisoned(shop, 1)
    browser = admin_browser.browser

    async def is_shown() -> bool:
        return str(stream) in (await browser.get("/console/quarantine")).text

    await eventually(is_shown)
    found = await selected(admin_browser.person, "/api/v1/ops/quarantine")
    (feed, *_) = [each["feed"] for each in found["items"] if each["stream_id"] == str(stream)]
    page = await browser.get(f"/console/quarantine?feed={feed}")
    asked = await browser.get(link(page, "Try all again …"))
    done = await browser.send(asked.form("/console/quarantine/all"), reason="it is mended")
    assert "1 stream in quarantine will be tried again." in done.text

    async def is_tried() -> bool:
        now = await selected(admin_browser.person, "/api/v1/ops/quarantine", feed=feed)
        return any(each["attempts"] > 1 for each in now["items"])

    await eventually(is_tried)
    assert (
        "No stream in quarantine is like that"
        in (await browser.get("/console/quarantine?error=none+such")).text
    )
