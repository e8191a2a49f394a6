"""Commands on accounts, and the mails that prove who owns an address."""

from datetime import timedelta
from unittest.mock import ANY
from uuid import UUID

import pytest

from commands.caller import SYSTEM
from domain.claims import ClaimReleased, ClaimTaken
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale, Unauthorized
from domain.identity import (
    MAILBOX,
    EmailRestored,
    EmailVerified,
    PasswordChanged,
    ProfileChanged,
    SessionsEnded,
    User,
    UserRegistered,
)
from domain.notifications import NotificationRequested
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, Shop, caller
from tests.support.given_when_then import an_id

PASSWORD, NEW_PASSWORD = "correct horse", "battery staple"
MAIL, NEW_MAIL = "ana@example.org", "ana@example.net"
OPENED = UserRegistered(
    user_id=ANY,
    account_type="BUYER",
    region="US",
    email=MAIL,
    name="Ana",
    email_digest=ANY,
    password_hash=f"plain:{PASSWORD}",
    digest_of=MAILBOX,
)
CLAIMED = ClaimTaken(kind="email", holder_id=ANY)
ENDED = SessionsEnded()
REHASHED = PasswordChanged(password_hash=f"plain:{NEW_PASSWORD}")


async def ana(shop: Shop) -> User:
    """An account, registered by its owner."""
    made = await shop.accounts.register(SYSTEM, email=MAIL, password=PASSWORD, name="Ana")
    return made.value


async def mailed(shop: Shop, template: str) -> str:
    """The token in the last mail of this template."""
    asked = [event.event for event in await shop.log.read(names=[NotificationRequested.NAME])]
    token: str = next(
        event.params["token"] for event in reversed(asked) if event.template == template
    )
    return token


# -- opening an account ----------------------------------------------------------------------------


async def test_a_person_opens_an_account_and_has_its_mailbox(shop: Shop) -> None:
    opening = shop.when(shop.accounts.register(SYSTEM, email=MAIL, password=PASSWORD, name="Ana"))
    made = await opening.then(OPENED, CLAIMED)
    assert (await shop.accounts.get(made.value.user_id)).status == "PENDING_VERIFICATION"


@pytest.mark.parametrize("spelled", [MAIL, "Ana@Example.ORG"])
async def test_a_mailbox_has_one_account_however_it_is_spelled(shop: Shop, spelled: str) -> None:
    await ana(shop)
    with pytest.raises(Conflict, match="email_taken"):
        await shop.accounts.register(SYSTEM, email=spelled, password=PASSWORD, name="Ana II")


async def test_who_is_refused_leaves_no_key_behind(shop: Shop) -> None:
    user_id = an_id("new")
    opening = shop.when(
        shop.accounts.register(
            ADMIN, email=MAIL, password=PASSWORD, name="A", user_id=user_id, region="Mars"
        )
    )
    await opening.then_refused(Invalid, "invalid_region")
    assert await shop.log.keys.get([user_id]) == {}


async def test_only_an_admin_makes_another(shop: Shop) -> None:
    by_buyer = shop.when(
        shop.accounts.register(
            caller(an_id("ben")), email=MAIL, password=PASSWORD, name="Ana", account_type="ADMIN"
        )
    )
    await by_buyer.then_refused(Forbidden, "account_type_not_allowed")
    made = await shop.accounts.register(
        ADMIN, email=MAIL, password=PASSWORD, name="Ana", account_type="ADMIN"
    )
    assert made.value.account_type == "ADMIN"


async def test_a_weak_password_opens_nothing(shop: Shop) -> None:
    weak = shop.when(shop.accounts.register(SYSTEM, email=MAIL, password="short", name="Ana"))
    await weak.then_refused(Invalid, "weak_password")


# -- editing ---------------------------------------------------------------------------------------


async def test_its_owner_edits_the_profile_and_learns_the_version(shop: Shop) -> None:
    user = await ana(shop)
    me = caller(user.user_id)
    edited = await shop.when(
        shop.accounts.update(me, user.user_id, name="Ana B", expected_version=1)
    ).then(ProfileChanged(name="Ana B"))
    assert (edited.value.user.name, edited.value.version) == ("Ana B", 2)
    stale = shop.when(shop.accounts.update(me, user.user_id, name="Ana C", expected_version=1))
    await stale.then_refused(Stale, "version_mismatch", version=2)


async def test_nobody_else_edits_it(shop: Shop) -> None:
    user = await ana(shop)
    others = shop.when(shop.accounts.update(caller(an_id("ben")), user.user_id, name="Ben"))
    await others.then_refused(Forbidden, "not_yours")
    missing = shop.when(shop.accounts.update(ADMIN, an_id("?"), name="Ben"))
    await missing.then_refused(NotFound, "user_not_found")


async def test_a_new_password_takes_the_old_one_and_ends_all_sessions_but_this(shop: Shop) -> None:
    user, session = await ana(shop), an_id("session")
    me = caller(user.user_id, session_id=session)
    unknown = shop.when(shop.accounts.update(me, user.user_id, password=NEW_PASSWORD))
    await unknown.then_refused(Invalid, "current_password_missing")
    wrong = shop.when(
        shop.accounts.update(me, user.user_id, password=NEW_PASSWORD, current_password="wrong")
    )
    await wrong.then_refused(Unauthorized, "current_password_wrong")
    await shop.when(
        shop.accounts.update(me, user.user_id, password=NEW_PASSWORD, current_password=PASSWORD)
    ).then(
        REHASHED, SessionsEnded(kept_session_id=session), notified("password_changed", user.user_id)
    )


async def test_a_new_address_is_claimed_and_the_old_one_told_and_given_up(shop: Shop) -> None:
    user = await ana(shop)
    moved = shop.when(
        shop.accounts.update(
            caller(user.user_id), user.user_id, email=NEW_MAIL, current_password=PASSWORD
        )
    )
    await moved.then(
        CLAIMED,
        ClaimReleased(reason="email changed"),
        ProfileChanged(email=NEW_MAIL, email_digest=ANY, digest_of=MAILBOX),
        ENDED,
        notified("email_changed", user.user_id),
    )


def notified(template: str, user_id: UUID) -> NotificationRequested:
    return NotificationRequested(
        user_id=user_id, channel="email", template=template, cause_event_id=ANY, params=ANY
    )


# -- proofs by mail --------------------------------------------------------------------------------


async def test_who_reads_the_mail_verifies_the_address_once(shop: Shop) -> None:
    user = await ana(shop)
    await shop.when(shop.mail_proofs.verification_again(SYSTEM, MAIL)).then(
        notified("verification", user.user_id)
    )
    token = await mailed(shop, "verification")
    await shop.when(shop.mail_proofs.verify_email(SYSTEM, token)).then(EmailVerified())
    await shop.when(shop.mail_proofs.verify_email(SYSTEM, token)).then_nothing()
    await shop.when(shop.mail_proofs.verification_again(SYSTEM, MAIL)).then_nothing()


async def test_a_forgotten_password_is_replaced_by_a_mailed_token_once(shop: Shop) -> None:
    user = await ana(shop)
    asked = shop.when(shop.mail_proofs.forgot_password(SYSTEM, MAIL))
    await asked.then(notified("password_reset", user.user_id))
    token = await mailed(shop, "password_reset")
    await shop.when(shop.mail_proofs.reset_password(SYSTEM, token, NEW_PASSWORD)).then(
        REHASHED, ENDED, notified("password_changed", user.user_id)
    )
    again = shop.when(shop.mail_proofs.reset_password(SYSTEM, token, "another password"))
    await again.then_refused(Invalid, "invalid_token")


async def test_of_an_address_that_nobody_has_nothing_is_mailed(shop: Shop) -> None:
    await shop.when(shop.mail_proofs.forgot_password(SYSTEM, MAIL)).then_nothing()
    await shop.when(shop.mail_proofs.verification_again(SYSTEM, MAIL)).then_nothing()


async def test_a_token_is_for_one_purpose_and_a_while(shop: Shop) -> None:
    await ana(shop)
    await shop.mail_proofs.forgot_password(SYSTEM, MAIL)
    token = await mailed(shop, "password_reset")
    await shop.when(shop.mail_proofs.verify_email(SYSTEM, token)).then_refused(
        Invalid, "invalid_token"
    )
    shop.clock.advance(timedelta(hours=1))
    late = shop.when(shop.mail_proofs.reset_password(SYSTEM, token, NEW_PASSWORD))
    await late.then_refused(Invalid, "invalid_token")


async def test_under_a_key_a_mail_is_sent_once(shop: Shop) -> None:
    await ana(shop)
    once = IdempotencyKey(an_id("key"))
    await shop.mail_proofs.forgot_password(SYSTEM, MAIL, once=once)
    await shop.when(shop.mail_proofs.forgot_password(SYSTEM, MAIL, once=once)).then_known()


async def test_the_reader_of_the_old_address_takes_the_account_back_once(shop: Shop) -> None:
    user = await ana(shop)
    me = caller(user.user_id)
    await shop.accounts.update(me, user.user_id, email=NEW_MAIL, current_password=PASSWORD)
    token = await mailed(shop, "email_changed")
    back = shop.when(shop.mail_proofs.reset_password(SYSTEM, token, NEW_PASSWORD))
    await back.then(
        CLAIMED,
        ClaimReleased(reason="taken back"),
        EmailRestored(email=MAIL, email_digest=ANY),
        REHASHED,
        ENDED,
        notified("password_changed", user.user_id),
    )
    again = shop.when(shop.mail_proofs.reset_password(SYSTEM, token, "another password"))
    await again.then_refused(Invalid, "invalid_token")
