"""Notifications, from the event to the mail server and the record of the delivery."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from email.message import EmailMessage
from typing import Any

import pytest
import pytest_asyncio

from commands.caller import SYSTEM
from commands.reactors import notifications
from domain.errors import Refused
from domain.notifications import NotificationRequested
from eventstore.log import AlreadyDone
from tests.support.servers.mail import SENDER, Postbox, smtp_server
from tests.support.shops.gateway import CARD, DECLINED, PASSWORD, Person, Shop, open_shop
from tests.support.shops.money import filled_wallet, open_wallet, transact, transfer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postbox() -> AsyncIterator[Postbox]:
    async with smtp_server() as postbox:
        yield postbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    module_database: str, tmp_path_factory: pytest.TempPathFactory, postbox: Postbox
) -> AsyncIterator[Shop]:
    """A shop that sends its mail to a real server, with two attempts."""
    mail = {"smtp_url": postbox.url, "mail_from": SENDER, "notice_retry_seconds": "0.05"}
    async with open_shop(module_database, tmp_path_factory.mktemp("shop"), **mail) as shop:
        yield shop


async def notices_of(
    shop: Shop, person: Person, query: str = "", by: Person | None = None
) -> list[dict[str, Any]]:
    answer = await (by or person).get(
        f"/api/v1/notifications?{query}", headers=await shop.reached()
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def told(
    shop: Shop, person: Person, *templates: str, status: str = "SENT"
) -> list[dict[str, Any]]:
    """A person's mails in this state, once there is one of each of these templates."""

    async def look() -> list[dict[str, Any]]:
        return await notices_of(shop, person, f"status={status}&channel=email")

    def complete(found: list[dict[str, Any]]) -> bool:
        return {*templates} <= {notice["template"] for notice in found}

    return await shop.eventually(look, complete)


def mail_about(postbox: Postbox, person: Person, word: str) -> EmailMessage:
    (mail,) = [mail for mail in postbox.mails(person.email) if word in mail["Subject"]]
    return mail


def token_in(mail: EmailMessage) -> str:
    return str(re.findall(r"^ey\S+$", mail.get_content(), re.MULTILINE)[0])


async def verified(shop: Shop, postbox: Postbox, **fields: Any) -> Person:
    """A person with a verified address."""
    person = await shop.register(**fields)
    await told(shop, person, "welcome")
    token = token_in(mail_about(postbox, person, "Welcome"))
    assert (
        await shop.client().post("/api/v1/auth/verify-email", json={"token": token})
    ).status_code == 204
    return person


@pytest_asyncio.fixture(loop_scope="module")
async def buyer(shop: Shop, postbox: Postbox) -> Person:
    return await verified(shop, postbox)


# -- delivery --------------------------------------------------------------------------------------


async def test_who_registers_is_welcomed_by_mail_and_its_token_verifies_the_address(
    shop: Shop, postbox: Postbox
) -> None:
    ann = await shop.register(name="Ána")
    (welcome,) = await told(shop, ann, "welcome")
    assert (welcome["status"], welcome["code"], welcome["attempts"]) == ("SENT", None, 1)
    assert welcome["provider_ref"].startswith("queued as")
    mail = mail_about(postbox, ann, "Welcome")
    assert mail["To"].addresses[0].addr_spec == ann.email
    answer = await shop.client().post("/api/v1/auth/verify-email", json={"token": token_in(mail)})
    assert answer.status_code == 204


async def test_a_forgotten_password_is_mailed_the_same_way(shop: Shop, postbox: Postbox) -> None:
    ann = await shop.register()
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    await told(shop, ann, "password_reset")
    token = token_in(mail_about(postbox, ann, "password"))
    answer = await shop.client().post(
        "/api/v1/auth/password/reset", json={"token": token, "password": PASSWORD + " again"}
    )
    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("refusal", "code"),
    [("451 greylisted", "try_later"), ("550 <ann@example.com> unknown", "recipient_refused")],
)
async def test_a_refused_mail_is_a_dead_letter_and_sent_when_redriven(
    shop: Shop, postbox: Postbox, auditor: Person, refusal: str, code: str
) -> None:
    postbox.refusal = refusal
    ann = await shop.register()
    (failed,) = await told(shop, ann, "welcome", status="FAILED")
    assert (failed["code"], failed["attempts"]) == (code, 2)
    postbox.refusal = ""
    dead = await dead_letter(auditor, failed["notification_id"])
    assert code in dead["error"]
    assert "@" not in str(dead)
    assert (await auditor.post(f"/api/v1/ops/dead-letters/{dead['id']}/redrive")).status_code == 202
    (sent,) = await told(shop, ann, "welcome")
    assert (sent["notification_id"], sent["code"], sent["attempts"]) == (
        failed["notification_id"],
        None,
        3,
    )
    assert len(postbox.mails(ann.email)) == 1


async def dead_letter(auditor: Person, notice_id: str) -> dict[str, Any]:
    """The notification's dead letter; it is written right after the failure was recorded."""
    async with asyncio.timeout(10):
        while True:
            for letter in (await auditor.get("/api/v1/ops/dead-letters")).json()["items"]:
                if letter["body"].get("notice_id") == notice_id:
                    return dict(letter)


# -- causes ----------------------------------------------------------------------------------------


async def test_a_purchase_is_notified_by_mail_and_push(
    shop: Shop, postbox: Postbox, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller, title="Pathfinder: Wrath")
    method = {"type": "card", "token": CARD}
    await buyer.post("/api/v1/orders", json={"game_id": game["id"], "payment_method": method})
    await told(shop, buyer, "purchase")
    assert "19.99 USD" in mail_about(postbox, buyer, "Pathfinder: Wrath").get_content()

    async def pushed() -> list[dict[str, Any]]:
        return await notices_of(shop, buyer, "channel=push&status=SENT")

    (notice,) = await shop.eventually(pushed)
    posted = json.loads((shop.core.settings.home / "push" / notice["provider_ref"]).read_bytes())
    assert (posted["id"], posted["template"]) == (notice["notification_id"], "purchase")
    assert (posted["user_id"], posted["title"]) == (
        str(buyer.id),
        "Your purchase: Pathfinder: Wrath",
    )


async def test_a_failed_payment_and_a_refund_are_notified(
    shop: Shop, postbox: Postbox, buyer: Person, seller: Person, admin: Person
) -> None:
    game = await shop.game(seller)
    for token in (DECLINED, CARD):
        method = {"type": "card", "token": token}
        order = await buyer.post(
            "/api/v1/orders",
            json={"game_id": game["id"], "payment_method": method},
            headers={"Prefer": "wait=10"},
        )
    await told(shop, buyer, "payment_failed", "purchase")
    await admin.post(
        f"/api/v1/payments/{order.json()['payment_id']}/refund",
        json={"amount_cents": 500, "reason": "x"},
    )
    await told(shop, buyer, "refund")
    assert "returned 5.00 USD to you" in mail_about(postbox, buyer, "refund").get_content()


async def test_both_sides_of_a_transfer_are_notified_by_mail_and_push(
    shop: Shop, postbox: Postbox, buyer: Person, admin: Person
) -> None:
    bob = await verified(shop, postbox, name="Bob")
    source, target = await filled_wallet(buyer, admin), await open_wallet(bob)
    assert (await transfer(buyer, source, target, 1250)).status_code == 201
    await told(shop, buyer, "transfer_sent")
    await told(shop, bob, "transfer_received")
    for person, subject in ((buyer, "You sent 12.50 USD"), (bob, "You received 12.50 USD")):
        assert "Bob" not in mail_about(postbox, person, subject).get_content().replace(
            "Hello Bob", ""
        )
        channels = {
            n["channel"]
            for n in await notices_of(shop, person)
            if n["template"].startswith("transfer")
        }
        assert channels == {"email", "push"}


async def test_a_failed_transfer_is_notified_to_its_sender_alone(
    shop: Shop, postbox: Postbox, buyer: Person, admin: Person
) -> None:
    bob = await shop.register()
    source, target = await filled_wallet(buyer, admin), await open_wallet(bob)
    await admin.post(f"/api/v1/wallets/{target['id']}/deactivate", json={"reason": "for a test"})
    assert (await transfer(buyer, source, target, 1250)).status_code == 400
    await told(shop, buyer, "transfer_failed")
    assert "12.50 USD are back" in mail_about(postbox, buyer, "transfer failed").get_content()
    assert [notice["template"] for notice in await notices_of(shop, bob)] == ["welcome"]


async def test_a_deposit_is_notified_whether_it_succeeded_or_failed(
    shop: Shop, postbox: Postbox, buyer: Person
) -> None:
    wallet = await open_wallet(buyer)
    for token in (CARD, DECLINED):
        method = {"type": "card", "token": token}
        await transact(buyer, "deposit", 2500, to_wallet_id=wallet["id"], payment_method=method)
    await told(shop, buyer, "deposit_completed", "deposit_failed")
    mails = {mail["Subject"]: mail.get_content() for mail in postbox.mails(buyer.email)}
    assert "25.00 USD are in your wallet" in mails["Your deposit"]
    assert "Your deposit of 25.00 USD failed" in mails["Your deposit failed"]


async def test_an_event_is_notified_once_however_often_it_is_reacted_to(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    wallet = await filled_wallet(buyer, admin)
    await transfer(buyer, wallet, await open_wallet(admin), 100)
    await told(shop, buyer, "transfer_sent")
    before = await requested(shop)
    reactor = notifications.notification_requests(shop.core.handler, shop.commands.mail_tokens)
    for recorded in await shop.core.log.read(0):
        with suppress(AlreadyDone, Refused):
            await reactor.react(recorded)
    assert await requested(shop) == before


async def requested(shop: Shop) -> int:
    return sum(
        isinstance(recorded.event, NotificationRequested)
        for recorded in await shop.core.log.read(0)
    )


# -- recipients ------------------------------------------------------------------------------------

LURE = "Win at http://evil.example"


async def test_an_address_that_nobody_verified_gets_no_word_that_somebody_typed(
    shop: Shop, postbox: Postbox, seller: Person
) -> None:
    ann = await shop.register(name=LURE)
    game = await shop.game(seller, title=LURE)
    await ann.post(
        "/api/v1/orders",
        json={"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}},
    )
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    await told(shop, ann, "welcome", "purchase", "password_reset")

    for mail in postbox.mails(ann.email):
        assert "evil" not in mail.as_string()
        assert mail["To"].addresses[0].display_name == ""
    assert "19.99 USD" in mail_about(postbox, ann, "Your purchase").get_content()


async def test_an_address_that_is_verified_is_greeted_by_name(shop: Shop, postbox: Postbox) -> None:
    ann = await verified(shop, postbox, name="Ána")
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    await told(shop, ann, "password_reset")
    mail = mail_about(postbox, ann, "Reset")
    assert mail["To"].addresses[0].display_name == "Ána"
    assert mail.get_content().startswith("Hello Ána,")


async def test_the_old_address_gets_a_mail_about_a_new_one_and_can_restore_the_account(
    shop: Shop, postbox: Postbox
) -> None:
    ann = await shop.register()
    thief = f"{ann.id.hex}@thief.example"
    moved = await ann.put("/api/v1/users/me", json={"email": thief, "current_password": PASSWORD})
    assert (moved.status_code, moved.json()["email"], moved.json()["email_verified"]) == (
        200,
        thief,
        False,
    )
    again = f"{ann.id.hex}@second.example"
    await ann.put("/api/v1/users/me", json={"email": again, "current_password": PASSWORD})
    await told(shop, ann, "email_changed", "verification")
    mail = mail_about(postbox, ann, "Your e-mail address was changed")
    assert thief not in mail.as_string()

    async def take_back(token: str) -> int:
        body = {"token": token, "password": "mine and mine alone"}
        return (await shop.client().post("/api/v1/auth/password/reset", json=body)).status_code

    async def to_thief() -> list[EmailMessage]:
        return [mail for mail in postbox.mails(thief) if "was changed" in mail["Subject"]]

    (to_the_thief,) = await shop.eventually(to_thief)
    assert await take_back(token_in(mail)) == 204
    assert await take_back(token_in(mail)) == 422
    assert await take_back(token_in(to_the_thief)) == 422
    body = {"email": ann.email, "password": "mine and mine alone"}
    back = (await shop.client().post("/api/v1/auth/login", json=body)).json()
    assert (back["user"]["email"], back["user"]["email_verified"]) == (ann.email, True)
    for lost in (thief, again):
        body = {"email": lost, "password": PASSWORD}
        assert (await shop.client().post("/api/v1/auth/login", json=body)).status_code == 401
    assert (await ann.get("/api/v1/users/me")).json()["code"] == "session_ended"


async def test_a_mail_about_a_new_password_has_a_link_to_reset_it(
    shop: Shop, postbox: Postbox
) -> None:
    ann = await shop.register()
    await ann.put("/api/v1/users/me", json={"password": "of a thief", "current_password": PASSWORD})
    await told(shop, ann, "password_changed")
    body = {
        "token": token_in(mail_about(postbox, ann, "Your password was changed")),
        "password": "mine and mine alone",
    }
    assert (await shop.client().post("/api/v1/auth/password/reset", json=body)).status_code == 204
    login = {"email": ann.email, "password": "mine and mine alone"}
    assert (await shop.client().post("/api/v1/auth/login", json=login)).status_code == 200


async def test_a_token_goes_to_the_address_that_it_proves_something_of(
    shop: Shop, postbox: Postbox
) -> None:
    """Even if the account had another address when the mail was sent."""
    ann = await shop.register()
    await told(shop, ann, "welcome")
    user = await shop.commands.accounts.get(ann.id)
    await shop.commands.mail_proofs.mail_verification(SYSTEM, user)  # requested, not yet sent
    new = f"{ann.id.hex}@new.example"
    await ann.put("/api/v1/users/me", json={"email": new, "current_password": PASSWORD})

    async def mailed() -> list[list[EmailMessage]]:
        confirm = "Confirm your e-mail"
        found = [
            [m for m in postbox.mails(to) if confirm in m["Subject"]] for to in (ann.email, new)
        ]
        return found if all(found) else []

    ((old_mail,), (new_mail,)) = await shop.eventually(mailed)
    for mail, status in ((old_mail, 422), (new_mail, 204)):
        answer = await shop.client().post(
            "/api/v1/auth/verify-email", json={"token": token_in(mail)}
        )
        assert answer.status_code == status


async def test_mail_to_an_international_address_reaches_that_very_mailbox(
    shop: Shop, postbox: Postbox
) -> None:
    for typed, to in (
        ("bob@faß.example", "bob@xn--fa-hia.example"),
        ("bob@fass.example", "bob@fass.example"),
    ):
        await shop.client().post(
            "/api/v1/users", json={"email": typed, "password": PASSWORD, "name": "Bob"}
        )

        async def mailed(to: str = to) -> list[EmailMessage]:
            return postbox.mails(to)

        assert len(await shop.eventually(mailed)) == 1


# -- authorization ---------------------------------------------------------------------------------


async def test_notices_are_their_owners_and_an_admins_to_see(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    await told(shop, buyer, "welcome")
    other = await shop.register()
    refused = await other.get(f"/api/v1/notifications?user_id={buyer.id}")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    assert len(await notices_of(shop, buyer, f"user_id={buyer.id}", by=admin)) == 1
    assert (await buyer.get("/api/v1/notifications?status=LOST")).status_code == 422


async def test_the_notices_of_the_forgotten_are_nobodys(shop: Shop, admin: Person) -> None:
    ann = await shop.register()
    await told(shop, ann, "welcome")
    assert (await ann.delete(f"/api/v1/users/{ann.id}?forget=true")).status_code == 204
    assert await notices_of(shop, ann, f"user_id={ann.id}", by=admin) == []
