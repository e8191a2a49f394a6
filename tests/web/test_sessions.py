"""Sessions of browsers: their cookies, their ends, and forms that other sites send."""

import asyncio
from uuid import uuid4

import msgspec
import pytest

from tests.support.shops.gateway import PASSWORD, Person, Shop, another_process
from tests.web.browser import Browser
from tests.web.conftest import SEALER, Register, session_of, web_of
from web.sessions import Sealer, Session, new_session


def give(browser: Browser, session: Session) -> None:
    browser.client.cookies.clear()
    browser.client.cookies.set("session", SEALER.seal(session), domain="shop.local")


async def test_errors_stand_beside_their_fields(browser: Browser) -> None:
    form = (await browser.get("/register")).form("/register")

    page = await browser.send(
        form, name="Zoë", email="zoe@example.com", password="short", region="US"
    )

    assert page.status == 422
    assert "A password has at least 10 characters." in page.text
    again = page.form("/register").fields
    assert (again["name"], again["email"], again["password"]) == ("Zoë", "zoe@example.com", "")
    assert again["region"] == "US"


async def test_signing_in_leads_to_where_one_wanted_to_go(
    browser: Browser, register: Register
) -> None:
    ann, _ = await register()
    user = session_of(ann).user
    assert user is not None

    asked = await browser.get("/library?q=x")
    assert asked.path == "/sign-in"
    wrong = await browser.send(asked.form("/sign-in"), email=str(user.email), password="wrong")
    assert (wrong.status, "The e-mail or the password is wrong." in wrong.text) == (422, True)
    there = await browser.send(wrong.form("/sign-in"), email=str(user.email), password=PASSWORD)

    assert str(there.answer.url) == "http://shop/library?q=x"


async def test_a_guest_who_wants_a_game_is_back_at_it_after_registering(
    browser: Browser, seller: Person, shop: Shop
) -> None:
    game = await shop.game(seller, title="Gris")
    path = f"/games/{game['id']}"
    page = await browser.until(
        path, lambda page: "/cart/items" in {form.action for form in page.forms}
    )
    browser.client.headers["referer"] = f"http://shop{path}"

    asked = await browser.send(page.form("/cart/items"))
    assert (asked.path, "Sign in or register" in asked.text) == ("/sign-in", True)
    form = (await browser.get(asked.links["Register"])).form("/register")
    typed = {"name": "Ann", "email": f"{uuid4().hex}@example.com", "region": "US"}
    short = await browser.send(form, **typed, password="short")
    there = await browser.send(short.form("/register"), **typed, password=PASSWORD)

    assert (there.path, "Welcome" in there.text) == (path, True)


@pytest.mark.parametrize("sender", ["https://evil.example/library", "http://shop/cart/items", ""])
async def test_a_form_of_no_page_of_ours_leads_home_after_signing_in(
    browser: Browser, sender: str, shop: Shop
) -> None:
    await browser.get("/")
    fields = {"csrf": session_of(browser).csrf, "product_id": "x"}

    asked = await browser.client.post("/cart/items", data=fields, headers={"referer": sender})

    assert 'name="next" value="/"' in asked.text


async def test_a_link_to_sign_in_leads_back_to_its_page(browser: Browser, shop: Shop) -> None:
    page = await browser.get("/search?q=x")
    assert page.links["Sign in"] == "/sign-in?next=/search%3Fq%3Dx"
    assert (await browser.get("/reset-password?token=secret")).links["Sign in"] == "/sign-in"


async def test_who_registers_to_sell_is_led_to_the_desk(register: Register, shop: Shop) -> None:
    _, page = await register(account_type="SELLER")
    assert page.path == "/sell"


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_signing_in_leads_to_no_other_site(
    browser: Browser, elsewhere: str, shop: Shop
) -> None:
    page = await browser.client.get("/sign-in", params={"next": elsewhere})

    assert 'name="next" value="/"' in page.text


async def test_signing_out_ends_the_session_of_the_api(register: Register, shop: Shop) -> None:
    ann, home = await register()
    token = session_of(ann).access_token
    assert (await shop.client(token).get("/api/v1/users/me")).status_code == 200

    await ann.send(home.form("/sign-out"))

    assert session_of(ann).user is None
    assert (await shop.client(token).get("/api/v1/users/me")).status_code == 401


async def test_no_browser_keeps_a_page_of_who_is_signed_in(
    browser: Browser, register: Register
) -> None:
    ann, home = await register()
    for page in (home, await ann.get("/profile"), await ann.get("/orders/none")):
        assert page.answer.headers["cache-control"] == "no-store", page.path
    assert (await browser.get("/")).answer.headers["cache-control"] == "private, no-cache"


async def test_a_session_that_ended_elsewhere_is_over_here(register: Register, shop: Shop) -> None:
    ann, _ = await register()
    await shop.client(session_of(ann).access_token).post("/api/v1/auth/logout")

    page = await ann.get("/library")

    assert page.path == "/sign-in"
    assert "Your session has ended." in page.text


async def test_two_windows_at_two_processes_refresh_at_once(register: Register, shop: Shop) -> None:
    ann, _ = await register()
    due = msgspec.structs.replace(session_of(ann), access_ends=0.0)
    async with another_process(shop) as other:
        windows = [Browser(web_of(shop)), Browser(web_of(other))]
        for window in windows:
            give(window, due)

        pages = await asyncio.gather(*(window.get("/library") for window in windows))

        assert [page.path for page in pages] == ["/library", "/library"]
        for window in windows:
            assert session_of(window).refresh_token != due.refresh_token
            assert (await window.get("/profile")).path == "/profile"


async def test_a_cookie_is_readable_and_made_by_nobody_else(browser: Browser, shop: Shop) -> None:
    await browser.get("/register")
    value = browser.client.cookies["session"]
    assert session_of(browser).csrf not in value
    assert Sealer(b"x" * 32).open(value) is None
    assert SEALER.open(value[:-8] + "AAAAAAA=") is None
    assert SEALER.open("ü") is None

    browser.client.cookies.set("session", "nonsense", domain="shop.local")
    assert (await browser.get("/")).status == 200


async def test_behind_tls_the_cookie_is_of_this_host_alone(browser: Browser, shop: Shop) -> None:
    answer = await browser.client.get("https://shop/register")

    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-session=")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "strict-transport-security" in answer.headers


async def test_a_form_without_the_sessions_secret_does_nothing(
    register: Register, shop: Shop
) -> None:
    ann, home = await register()
    form = home.form("/sign-out")

    for typed in ({"csrf": ""}, {"csrf": new_session().csrf}):
        page = await ann.send(form, **typed)
        assert (page.status, "Please send that again" in page.text) == (403, True)
    from_elsewhere = await ann.client.post(
        "/sign-out", data=form.fields, headers={"sec-fetch-site": "cross-site"}
    )
    assert from_elsewhere.status_code == 403

    assert (await ann.get("/library")).path == "/library"


async def test_a_form_of_another_session_does_nothing(browser: Browser, register: Register) -> None:
    ann, home = await register()
    form = (await browser.get("/register")).form("/register")
    home.form("/sign-out").fields["csrf"] = form.fields["csrf"]

    assert (await ann.send(home.form("/sign-out"))).status == 403
