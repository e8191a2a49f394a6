"""Commands on sessions."""

from uuid import UUID

import pytest

from commands.accounts.logins import SESSION_LIFETIME, Login
from commands.caller import SYSTEM
from domain.errors import Forbidden, NotFound, Unauthorized
from domain.identity import (
    LoggedIn,
    LoggedOut,
    PasswordChanged,
    RefreshReused,
    SessionsEnded,
    UserDeactivated,
)
from eventstore.log import IdempotencyKey
from tests.support.commands import Shop, caller
from tests.support.given_when_then import NOON, an_id

MAIL, PASSWORD = "ana@example.org", "correct horse"


async def ana(shop: Shop) -> UUID:
    return (
        await shop.accounts.register(SYSTEM, email=MAIL, password=PASSWORD, name="Ana")
    ).value.user_id


async def logged_in(shop: Shop) -> Login:
    await ana(shop)
    return (await shop.logins.log_in(SYSTEM, email=MAIL, password=PASSWORD)).value


async def test_a_person_logs_in_however_the_address_is_spelled(shop: Shop) -> None:
    user_id = await ana(shop)
    position = await shop.log.head()
    login = (await shop.logins.log_in(SYSTEM, email="Ana@Example.org", password=PASSWORD)).value
    (recorded,) = await shop.log.read(position)
    assert recorded.event == LoggedIn(session_id=login.session_id)
    assert recorded.env.actor == f"user:{user_id}"
    assert (login.user.user_id, login.generation, login.expires_at) == (
        user_id,
        0,
        NOON + SESSION_LIFETIME,
    )
    assert [each.session_id for each in await shop.logins.sessions_of(user_id)] == [
        login.session_id
    ]


@pytest.mark.parametrize(
    ("email", "password"), [(MAIL, "wrong"), ("ben@example.org", PASSWORD), ("?", PASSWORD)]
)
async def test_a_wrong_password_and_an_unknown_address_are_refused_alike(
    shop: Shop, email: str, password: str
) -> None:
    await ana(shop)
    wrong = shop.when(shop.logins.log_in(SYSTEM, email=email, password=password))
    await wrong.then_refused(Unauthorized, "invalid_credentials")


async def test_that_an_account_is_closed_learns_only_who_knows_its_password(shop: Shop) -> None:
    user_id = await ana(shop)
    closed = shop.given({user_id: [UserDeactivated()]})
    await closed.when(shop.logins.log_in(SYSTEM, email=MAIL, password=PASSWORD)).then_refused(
        Forbidden, "user_inactive"
    )
    wrong = shop.when(shop.logins.log_in(SYSTEM, email=MAIL, password="wrong"))
    await wrong.then_refused(Unauthorized, "invalid_credentials")


async def test_a_login_may_be_for_one_type_of_account_only(shop: Shop) -> None:
    await ana(shop)
    wanted = shop.when(shop.logins.log_in(SYSTEM, email=MAIL, password=PASSWORD, only="ADMIN"))
    await wanted.then_refused(Forbidden, "role_required")


async def test_under_a_key_a_session_is_opened_once_and_its_owner_gets_it_again(shop: Shop) -> None:
    user_id, once = await ana(shop), IdempotencyKey(an_id("key"))
    login = (await shop.logins.log_in(SYSTEM, email=MAIL, password=PASSWORD, once=once)).value
    done = await shop.when(
        shop.logins.log_in(SYSTEM, email=MAIL, password=PASSWORD, once=once)
    ).then_known()
    assert done.result_ids == {"user_id": str(user_id), "session_id": str(login.session_id)}
    assert await shop.logins.again(user_id, login.session_id, PASSWORD) == login
    with pytest.raises(Unauthorized, match="invalid_credentials"):
        await shop.logins.again(user_id, login.session_id, "wrong")


async def test_each_refresh_spends_a_token(shop: Shop) -> None:
    login = await logged_in(shop)
    first = await shop.when(shop.logins.refresh(SYSTEM, login.session_id, 0)).then_nothing()
    second = await shop.when(shop.logins.refresh(SYSTEM, login.session_id, 1)).then_nothing()
    assert (first.value.generation, second.value.generation) == (1, 2)


async def test_a_spent_token_closes_the_session_which_is_noted_once(shop: Shop) -> None:
    login = await logged_in(shop)
    await shop.logins.refresh(SYSTEM, login.session_id, 0)
    position = await shop.log.head()
    for _ in range(2):
        with pytest.raises(Unauthorized, match="refresh_reused"):
            await shop.logins.refresh(SYSTEM, login.session_id, 0)
    assert [each.event for each in await shop.log.read(position)] == [
        RefreshReused(session_id=login.session_id)
    ]
    with pytest.raises(Unauthorized):
        await shop.logins.refresh(SYSTEM, login.session_id, 1)


async def test_a_session_has_its_time(shop: Shop) -> None:
    login = await logged_in(shop)
    shop.clock.advance(SESSION_LIFETIME)
    await shop.when(shop.logins.refresh(SYSTEM, login.session_id, 0)).then_refused(
        Unauthorized, "invalid_token"
    )
    await shop.when(shop.logins.refresh(SYSTEM, an_id("?"), 0)).then_refused(
        Unauthorized, "invalid_token"
    )


async def test_with_the_password_all_sessions_end_but_the_one_that_changed_it(shop: Shop) -> None:
    kept = await logged_in(shop)
    other = (await shop.logins.log_in(SYSTEM, email=MAIL, password=PASSWORD)).value
    changed = PasswordChanged(password_hash="plain:battery staple")
    await shop.append(
        {kept.user.user_id: [changed, SessionsEnded(kept_session_id=kept.session_id)]}
    )
    await shop.when(shop.logins.refresh(SYSTEM, other.session_id, 0)).then_refused(
        Unauthorized, "invalid_token"
    )
    assert (await shop.logins.refresh(SYSTEM, kept.session_id, 0)).value.generation == 1


async def test_who_logs_out_ends_the_session(shop: Shop) -> None:
    login = await logged_in(shop)
    me = caller(login.user.user_id)
    await shop.when(shop.logins.log_out(me, login.session_id)).then(
        LoggedOut(session_id=login.session_id)
    )
    await shop.when(shop.logins.refresh(me, login.session_id, 0)).then_refused(
        Unauthorized, "invalid_token"
    )
    nobody = shop.when(shop.logins.log_out(caller(an_id("?")), login.session_id))
    await nobody.then_refused(NotFound, "user_not_found")
