"""The end of a session ends its tokens and its sockets, in every API process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from commands.accounts import session_ends
from commands.accounts.session_ends import SessionEnds
from domain.identity import RefreshReused
from domain.notifications import NotificationRequested
from tests.api.test_live import goodbye, greet, serving
from tests.support.shops.gateway import PASSWORD, Person, Shop, another_process

OTHER_PASSWORD = "another password"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def elsewhere(shop: Shop) -> AsyncIterator[Shop]:
    """Another API process."""
    async with another_process(shop) as other:
        yield other


async def log_in(shop: Shop, person: Person, password: str = PASSWORD) -> dict[str, Any]:
    answer = await shop.client().post(
        "/api/v1/auth/login", json={"email": person.email, "password": password}
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def told(shop: Shop, token: str) -> tuple[int, str]:
    answer = await shop.client(token).get("/api/v1/users/me")
    return answer.status_code, answer.json().get("code", "")


OPEN, ENDED = (200, ""), (401, "session_ended")


async def reset_token(shop: Shop, person: Person) -> str:
    before = await shop.core.log.head()
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": person.email})

    async def look() -> list[str]:
        events = [each.event for each in await shop.core.log.read(before)]
        asked = [
            each
            for each in events
            if isinstance(each, NotificationRequested) and each.user_id == person.id
        ]
        return [
            each.params["token"]
            for each in asked
            if each.template == "password_reset" and each.params
        ]

    return (await shop.eventually(look))[0]


async def change_password(shop: Shop, person: Person) -> httpx.Response:
    body = {"password": OTHER_PASSWORD, "current_password": PASSWORD}
    return await person.put("/api/v1/users/me", json=body)


async def change_email(shop: Shop, person: Person) -> httpx.Response:
    body = {"email": f"{uuid4().hex}@example.com", "current_password": PASSWORD}
    return await person.put("/api/v1/users/me", json=body)


async def reset_password(shop: Shop, person: Person) -> httpx.Response:
    body = {"token": await reset_token(shop, person), "password": OTHER_PASSWORD}
    return await shop.client().post("/api/v1/auth/password/reset", json=body)


async def log_out(_: Shop, person: Person) -> httpx.Response:
    return await person.post("/api/v1/auth/logout")


async def close(_: Shop, person: Person) -> httpx.Response:
    return await person.delete("/api/v1/users/me")


async def spend_twice(shop: Shop, person: Person) -> httpx.Response:
    body = {"refresh_token": person.tokens["refresh_token"]}
    await shop.client().post("/api/v1/auth/refresh", json=body)
    await shop.client().post("/api/v1/auth/refresh", json=body)
    return httpx.Response(204)


# how a session ends; whether the session that asks for it ends, and whether another one of the same
# person's
WAYS = [
    (log_out, True, False),
    (change_password, False, True),
    (change_email, False, True),
    (reset_password, True, True),
    (close, True, True),
    (spend_twice, True, False),
]


@pytest.mark.parametrize(
    ("end", "own_ends", "other_ends"), WAYS, ids=lambda value: getattr(value, "__name__", "")
)
async def test_what_ends_a_session_ends_its_tokens_everywhere(
    shop: Shop,
    elsewhere: Shop,
    end: Callable[[Shop, Person], Awaitable[httpx.Response]],
    own_ends: bool,
    other_ends: bool,
) -> None:
    ann, bob = await shop.register(), await shop.register()
    own, other = ann.tokens, await log_in(elsewhere, ann)
    for tokens in (own, other):
        assert await told(elsewhere, tokens["access_token"]) == OPEN

    assert (await end(shop, ann)).status_code in {200, 204}
    head = await shop.core.log.head()

    for process in (shop, elsewhere):
        await process.services.session_ends.reached(head)
        assert await told(process, own["access_token"]) == (ENDED if own_ends else OPEN)
        assert await told(process, other["access_token"]) == (ENDED if other_ends else OPEN)
        assert await told(process, bob.tokens["access_token"]) == OPEN
    for tokens, over in ((own, own_ends), (other, other_ends)):
        refreshed = await elsewhere.client().post(
            "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}
        )
        assert refreshed.status_code == (401 if over else 200)


async def test_an_ended_session_ends_at_once_for_its_owner(shop: Shop) -> None:
    ann = await shop.register()

    await ann.post("/api/v1/auth/logout")

    assert await told(shop, ann.tokens["access_token"]) == ENDED


async def test_another_process_knows_within_a_second(shop: Shop, elsewhere: Shop) -> None:
    ann = await shop.register()
    token = ann.tokens["access_token"]
    assert await told(elsewhere, token) == OPEN

    await ann.post("/api/v1/auth/logout")

    async with asyncio.timeout(1):
        while await told(elsewhere, token) == OPEN:
            pass


async def test_a_process_that_starts_later_knows_what_ended_before(shop: Shop) -> None:
    ann, bob = await shop.register(), await shop.register()
    await ann.post("/api/v1/auth/logout")
    await bob.put(
        "/api/v1/users/me", json={"password": OTHER_PASSWORD, "current_password": PASSWORD}
    )
    new = await log_in(shop, bob, OTHER_PASSWORD)

    async with another_process(shop) as later:
        assert await told(later, ann.tokens["access_token"]) == ENDED
        assert await told(later, bob.tokens["access_token"]) == OPEN  # it asked for the change
        assert await told(later, new["access_token"]) == OPEN


async def test_a_process_that_does_not_hear_from_the_log_looks_before_it_lets_anybody_in(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(_: SessionEnds) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SessionEnds, "_follow", deaf)
    monkeypatch.setattr(session_ends, "STALE_SECONDS", 0.0)
    async with another_process(shop) as alone:
        ann = await shop.register()
        assert await told(alone, ann.tokens["access_token"]) == OPEN

        await ann.post("/api/v1/auth/logout")

        assert await told(alone, ann.tokens["access_token"]) == ENDED


async def test_nobody_is_let_in_while_it_cannot_be_seen_who_left(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def frozen(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(session_ends, "WAIT_SECONDS", 0.05)
    ann = await shop.register()
    async with another_process(shop) as blind:
        monkeypatch.setattr(blind.services.session_ends, "_look", frozen)
        answer = await blind.client(ann.tokens["access_token"]).get("/api/v1/users/me")

    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")


async def test_a_busy_process_does_not_report_the_database_away(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_ends, "WAIT_SECONDS", 1.0)
    ann = await shop.register()
    async with another_process(shop) as busy:
        ends = busy.services.session_ends
        look = ends._look

        async def late(*asked: Any) -> None:
            monkeypatch.setattr(ends, "_look", look)
            until = monotonic() + 1.2 * session_ends.WAIT_SECONDS
            while monotonic() < until:  # other requests, none of which waits for anything
                pass
            await asyncio.sleep(0)
            await look(*asked)

        monkeypatch.setattr(ends, "_look", late)
        assert await told(busy, ann.tokens["access_token"]) == OPEN


async def test_to_let_somebody_in_takes_no_query(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await shop.register()
    ends = shop.services.session_ends
    access = shop.services.tokens.read_access(ann.tokens["access_token"])
    await ends.check(access.opened)

    async def look(*_: object) -> None:
        raise AssertionError("it asked the database")

    monkeypatch.setattr(ends, "_look_in_time", look)
    monkeypatch.setattr(ends, "_known_at", monotonic())
    for _ in range(100):
        await ends.check(access.opened)


async def test_its_sockets_are_hung_up(shop: Shop, elsewhere: Shop) -> None:
    ann = await shop.register()
    async with (
        serving(elsewhere.services) as server,
        server.connect() as ws,
        server.connect() as other,
    ):
        assert (await greet(ws, ann))["type"] == "ready"
        await other.send(json.dumps({"token": (await log_in(shop, ann))["access_token"]}))

        await ann.post("/api/v1/auth/logout")

        assert await goodbye(ws) == (4401, "session_ended")
        assert (await other.recv()) is not None  # that session continues


async def test_a_token_of_the_old_password_opens_nothing_by_a_login_in_between(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that was checked with the old password, and opened after the password was changed."""
    ann = await shop.register()
    hasher = shop.core.adapters.hasher
    matches = hasher.matches

    async def slow(password_hash: str, password: str) -> bool:
        found = await matches(password_hash, password)
        monkeypatch.undo()
        await change_password(shop, ann)
        return found

    monkeypatch.setattr(hasher, "matches", slow)
    answer = await shop.client().post(
        "/api/v1/auth/login", json={"email": ann.email, "password": PASSWORD}
    )

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")


async def test_the_reuse_of_a_refresh_token_is_on_record_once(shop: Shop) -> None:
    ann, before = await shop.register(), await shop.core.log.head()
    body = {"refresh_token": ann.tokens["refresh_token"]}
    await shop.client().post("/api/v1/auth/refresh", json=body)

    answers = [await shop.client().post("/api/v1/auth/refresh", json=body) for _ in range(3)]
    together = await asyncio.gather(
        *(shop.client().post("/api/v1/auth/refresh", json=body) for _ in range(3))
    )

    assert {(each.status_code, each.json()["code"]) for each in [*answers, *together]} == {
        (401, "refresh_reused")
    }
    noted = [
        each.event
        for each in await shop.core.log.read(before)
        if isinstance(each.event, RefreshReused)
    ]
    assert len(noted) == 1


async def test_an_account_that_is_opened_again_has_no_session_of_before(
    shop: Shop, admin: Person
) -> None:
    ann = await shop.register()
    await ann.delete("/api/v1/users/me")

    assert (await admin.post(f"/api/v1/users/{ann.id}/reopen")).status_code == 200

    await shop.services.session_ends.reached(await shop.core.log.head())
    assert await told(shop, ann.tokens["access_token"]) == ENDED
    refreshed = await shop.client().post(
        "/api/v1/auth/refresh", json={"refresh_token": ann.tokens["refresh_token"]}
    )
    assert refreshed.status_code == 401
    assert await told(shop, (await log_in(shop, ann))["access_token"]) == OPEN
