"""The links in mails lead to pages that take their tokens."""

import re
from collections.abc import AsyncIterator
from email.message import EmailMessage
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.support.servers.mail import SENDER, Postbox, smtp_server
from tests.support.shops.gateway import PASSWORD, Person, Shop, open_shop
from tests.web.browser import Browser
from tests.web.conftest import web_of

PUBLIC = "https://shop.example.com"
NEW = "mine and mine alone"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postbox() -> AsyncIterator[Postbox]:
    async with smtp_server() as postbox:
        yield postbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    module_database: str, tmp_path_factory: pytest.TempPathFactory, postbox: Postbox
) -> AsyncIterator[Shop]:
    """A shop that people reach at a public address."""
    mail = {"smtp_url": postbox.url, "mail_from": SENDER, "public_url": f"{PUBLIC}/"}
    async with open_shop(module_database, tmp_path_factory.mktemp("shop"), **mail) as shop:
        yield shop


async def link_to(shop: Shop, postbox: Postbox, person: Person, word: str) -> str:
    """The path and query of the link in a person's mail with this word in its subject."""

    async def mailed() -> list[EmailMessage]:
        return [mail for mail in postbox.mails(person.email) if word in mail["Subject"]]

    (mail,) = await shop.eventually(mailed)
    (link,) = re.findall(rf"^{PUBLIC}/\S+$", mail.get_content(), re.MULTILINE)
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


async def is_verified(shop: Shop, person: Person) -> bool:
    answer = await person.get("/api/v1/users/me", headers=await shop.reached())
    return bool(answer.json()["email_verified"])


async def test_the_link_of_the_welcome_confirms_the_address_once_its_button_is_pressed(
    shop: Shop, postbox: Postbox
) -> None:
    ann, browser = await shop.register(), Browser(web_of(shop))
    page = await browser.get(await link_to(shop, postbox, ann, "Welcome"))
    assert page.status == 200
    assert not await is_verified(shop, ann), "programs that check mails open links, too"

    pressed = await browser.send(page.form("/verify-email"))
    assert (pressed.status, await is_verified(shop, ann)) == (200, True)
    assert "your e-mail address is verified" in pressed.text


async def test_the_link_for_a_forgotten_password_sets_a_new_one_once(
    shop: Shop, postbox: Postbox
) -> None:
    ann, browser = await shop.register(), Browser(web_of(shop))
    await browser.send((await browser.get("/forgot")).form("/forgot"), email=ann.email)
    link = await link_to(shop, postbox, ann, "Reset")
    form = (await browser.get(link)).form("/reset-password")

    weak = await browser.send(form, password="short")
    assert (weak.status, "at least 10 characters" in weak.text) == (422, True)
    changed = await browser.send(weak.form("/reset-password"), password=NEW)
    assert (changed.path, "Your password is changed" in changed.text) == ("/sign-in", True)

    again = await browser.send((await browser.get(link)).form("/reset-password"), password=PASSWORD)
    assert (again.status, "was used already" in again.text) == (422, True)
    assert again.links["Mail me another link"] == "/forgot"
    login = {"email": ann.email, "password": NEW}
    assert (await shop.client().post("/api/v1/auth/login", json=login)).status_code == 200
    assert (await ann.get("/api/v1/users/me")).json()["code"] == "session_ended"


@pytest.mark.parametrize("path", ["/verify-email", "/reset-password"])
async def test_a_wrong_token_is_refused_in_words_and_shown_as_text(shop: Shop, path: str) -> None:
    browser = Browser(web_of(shop))
    page = await browser.get(f"{path}?token=%22%3E%3Cb%3E")
    refused = await browser.send(page.form(path), password=NEW)
    assert (refused.status, "This link has expired" in refused.text) == (422, True)
    assert "<b>" not in page.answer.text + refused.answer.text


async def test_a_page_may_not_be_framed_kept_or_told_of_by_a_referrer(shop: Shop) -> None:
    page = await Browser(web_of(shop)).get("/reset-password?token=x")
    headers = page.answer.headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "form-action 'self'" in headers["content-security-policy"]
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-store")


async def test_the_account_shows_the_texts_without_what_only_its_mail_may_have(
    shop: Shop, postbox: Postbox, admin: Person
) -> None:
    ann = await shop.register(name="Ána")
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    for word in ("Welcome", "Reset"):
        await link_to(shop, postbox, ann, word)

    answer = await ann.get("/api/v1/notifications", headers=await shop.reached())
    found = {each["template"]: each for each in answer.json()["items"]}
    assert found["password_reset"]["subject"] == "Reset your password"
    assert found["welcome"]["text"].startswith("Hello Ána,\n\nYour account is open.")
    for each in found.values():
        assert "(only in the mail)" in each["text"]
        assert not re.search(r"ey\w+\.|https?:", each["text"])
    by_admin = await admin.get(f"/api/v1/notifications?user_id={ann.id}")
    assert by_admin.json() == answer.json()


async def test_an_auditor_sees_that_there_was_a_text_and_not_which(
    shop: Shop, auditor: Person, buyer: Person
) -> None:
    await shop.eventually(lambda: notices(buyer))
    moment = await shop.core.log.head()
    answer = await auditor.get(f"/api/v1/notifications?user_id={buyer.id}&as_of={moment}")
    assert answer.status_code == 200, answer.text
    assert {(each["subject"], each["text"]) for each in answer.json()["items"]} == {
        ("[encrypted]", "[encrypted]")
    }


async def notices(person: Person) -> list[object]:
    return list((await person.get("/api/v1/notifications")).json()["items"])
