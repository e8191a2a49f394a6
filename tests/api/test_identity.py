"""Accounts and sessions, over HTTP."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from commands.caller import SYSTEM
from domain.notifications import NotificationRequested
from tests.support.shops.gateway import PASSWORD, Person, Shop


def another_password() -> dict[str, str]:
    return {"password": "another password", "current_password": PASSWORD}


def registration(**fields: object) -> dict[str, object]:
    email = f"{uuid4().hex}@example.com"
    return {
        "email": email,
        "password": PASSWORD,
        "name": "Ann",
        "account_type": "BUYER",
        "region": "BR",
    } | fields


async def test_registering_logs_in(shop: Shop) -> None:
    wanted = registration()
    answer = await shop.client().post("/api/v1/users", json=wanted)
    account = answer.json()

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/users/{account['id']}"
    assert account["status"] == "PENDING_VERIFICATION"
    assert {
        name: account[name]
        for name in ("email", "name", "account_type", "region", "email_verified")
    } == {
        "email": wanted["email"],
        "name": "Ann",
        "account_type": "BUYER",
        "region": "BR",
        "email_verified": False,
    }
    assert (account["token_type"], account["expires_in"]) == ("Bearer", 900)
    seen = await shop.client(account["access_token"]).get(
        f"/api/v1/users/{account['id']}", headers={"Min-Position": answer.headers["event-position"]}
    )
    assert seen.json()["email"] == wanted["email"]
    assert int(seen.headers["event-position"]) >= int(answer.headers["event-position"])


async def test_an_account_that_was_just_made_is_there_without_asking_for_a_position(
    shop: Shop,
) -> None:
    ann = await shop.register()

    assert (await ann.get(f"/api/v1/users/{ann.id}")).status_code == 200


async def test_an_email_has_one_account(shop: Shop) -> None:
    ann = await shop.register()

    answer = await shop.client().post("/api/v1/users", json=registration(email=ann.email.upper()))

    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("password", "too short", "weak_password"),
        ("email", "nobody", "invalid_email"),
        ("region", "Brazil", "invalid_region"),
        ("account_type", "KING", "invalid_request"),
        ("colour", "red", "invalid_request"),
    ],
)
async def test_a_registration_that_cannot_be_is_refused(
    shop: Shop, field: str, value: str, code: str
) -> None:
    answer = await shop.client().post("/api/v1/users", json=registration(**{field: value}))

    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_only_an_admin_makes_auditors(shop: Shop, admin: Person) -> None:
    wanted = registration(account_type="AUDITOR")

    assert (await shop.client().post("/api/v1/users", json=wanted)).status_code == 403
    assert (await admin.post("/api/v1/users", json=wanted)).status_code == 201


async def test_a_registration_repeated_under_its_key_opens_no_second_account(shop: Shop) -> None:
    wanted, key = registration(), {"Idempotency-Key": uuid4().hex}
    first = await shop.client().post("/api/v1/users", json=wanted, headers=key)

    again = await shop.client().post("/users/register", json=wanted, headers=key)

    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["event-position"] == first.headers["event-position"]
    assert again.json()["access_token"] != first.json()["access_token"]
    done = await shop.client().get(
        "/api/v1/library", headers={"authorization": "Bearer " + again.json()["access_token"]}
    )
    assert done.status_code == 200


async def test_a_repeated_registration_lets_in_only_who_still_knows_the_password(
    shop: Shop,
) -> None:
    wanted, key = registration(), {"Idempotency-Key": uuid4().hex}
    account = (await shop.client().post("/api/v1/users", json=wanted, headers=key)).json()
    ann = shop.client(account["access_token"])
    await ann.put(f"/api/v1/users/{account['id']}", json=another_password())

    again = await shop.client().post("/api/v1/users", json=wanted, headers=key)

    assert (again.status_code, again.json()["code"]) == (401, "invalid_credentials")


async def test_a_repeated_registration_does_not_open_a_closed_account(shop: Shop) -> None:
    wanted, key = registration(), {"Idempotency-Key": uuid4().hex}
    account = (await shop.client().post("/api/v1/users", json=wanted, headers=key)).json()
    await shop.client(account["access_token"]).delete(f"/api/v1/users/{account['id']}")

    again = await shop.client().post("/api/v1/users", json=wanted, headers=key)

    assert (again.status_code, again.json()["code"]) == (403, "user_inactive")


@pytest.mark.parametrize("door", ["/api/v1/auth/login", "/api/v1/auth/admin/login"])
async def test_a_login_repeated_under_its_key_is_the_same_session(
    shop: Shop, admin: Person, door: str
) -> None:
    body, key = {"email": admin.email, "password": PASSWORD}, {"Idempotency-Key": uuid4().hex}
    first = await shop.client().post(door, json=body, headers=key)

    again = await shop.client().post(door, json=body, headers=key)

    assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (
        200,
        200,
        "true",
    )
    assert again.headers["event-position"] == first.headers["event-position"]
    told, told_again = (
        shop.services.tokens.read_access(answer.json()["access_token"]) for answer in (first, again)
    )
    # another token of the same session: a second later it also expires a second later
    assert told_again.expires_at >= told.expires_at
    assert msgspec.structs.replace(told_again, expires_at=told.expires_at) == told
    spent = await shop.client().post(
        "/api/v1/auth/refresh", json={"refresh_token": again.json()["refresh_token"]}
    )
    assert spent.status_code == 200


async def test_a_login_repeated_after_the_password_has_changed_is_refused(shop: Shop) -> None:
    ann = await shop.register()
    body, key = {"email": ann.email, "password": PASSWORD}, {"Idempotency-Key": uuid4().hex}
    await shop.client().post("/api/v1/auth/login", json=body, headers=key)
    await ann.put(f"/api/v1/users/{ann.id}", json=another_password())

    again = await shop.client().post("/api/v1/auth/login", json=body, headers=key)

    assert (again.status_code, again.json()["code"]) == (401, "invalid_credentials")


async def test_a_login_repeated_after_logging_out_stays_logged_out(shop: Shop) -> None:
    ann = await shop.register()
    body, key = {"email": ann.email, "password": PASSWORD}, {"Idempotency-Key": uuid4().hex}
    opened = (await shop.client().post("/api/v1/auth/login", json=body, headers=key)).json()
    await shop.client(opened["access_token"]).post("/api/v1/auth/logout")

    again = await shop.client().post("/api/v1/auth/login", json=body, headers=key)

    assert (again.status_code, again.json()["code"]) == (401, "invalid_token")


async def test_who_is_registered_by_the_program_itself_has_no_session(shop: Shop) -> None:
    made = await shop.commands.accounts.register(
        SYSTEM, email=f"{uuid4().hex}@example.com", password=None, name="Ann"
    )

    assert await sessions_of(shop, made.value.user_id) == 0
    assert await sessions_of(shop, (await shop.register()).id) == 1


async def sessions_of(shop: Shop, user_id: UUID) -> int:
    async with shop.core.log.pool.connection() as conn:
        counted = await conn.execute(
            "SELECT count(*) FROM private.sessions WHERE user_id = %s", (user_id,)
        )
        row = await counted.fetchone()
        return int(row[0]) if row else 0


async def test_a_login_tells_who_one_is(shop: Shop) -> None:
    ann = await shop.register()

    answer = await shop.client().post(
        "/login/auth", json={"email": ann.email, "password": PASSWORD}
    )

    assert answer.status_code == 200
    assert answer.json()["user"]["id"] == str(ann.id)
    assert set(answer.json()) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "user",
    }


async def test_an_unknown_email_and_a_wrong_password_are_refused_alike(shop: Shop) -> None:
    ann = await shop.register()
    wrong = await shop.client().post(
        "/api/v1/auth/login", json={"email": ann.email, "password": "wrong password"}
    )
    unknown = await shop.client().post(
        "/api/v1/auth/login", json={"email": "x@y.zz", "password": "wrong password"}
    )

    def told(answer: httpx.Response) -> dict[str, Any]:
        return {**answer.json(), "trace_id": ""}

    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert told(wrong) == told(unknown)
    assert "www-authenticate" in wrong.headers


async def test_the_admins_door_is_for_admins(
    shop: Shop, admin: Person, buyer: Person, seller: Person, auditor: Person
) -> None:
    async def enter(person: Person) -> int:
        body = {"email": person.email, "password": PASSWORD}
        return (await shop.client().post("/api/v1/auth/admin/login", json=body)).status_code

    assert [await enter(each) for each in (admin, buyer, seller, auditor)] == [200, 403, 403, 403]


async def test_a_refresh_token_is_spent_by_its_use(shop: Shop) -> None:
    ann = await shop.register()
    first = ann.tokens["refresh_token"]

    fresh = await shop.client().post("/api/v1/auth/refresh", json={"refresh_token": first})
    assert fresh.status_code == 200
    assert await can_act(shop, fresh.json()["access_token"])

    again = await shop.client().post("/api/v1/auth/refresh", json={"refresh_token": first})
    assert (again.status_code, again.json()["code"]) == (401, "refresh_reused")

    heir = await shop.client().post(
        "/api/v1/auth/refresh", json={"refresh_token": fresh.json()["refresh_token"]}
    )
    assert heir.status_code == 401


async def test_a_refresh_that_is_repeated_under_its_key_is_no_theft(shop: Shop) -> None:
    ann = await shop.register()

    async def refresh(token: str, **headers: str) -> httpx.Response:
        return await shop.client().post(
            "/api/v1/auth/refresh", json={"refresh_token": token}, headers=headers
        )

    first = ann.tokens["refresh_token"]
    key = {"idempotency-key": "of this browser"}
    both = await asyncio.gather(refresh(first, **key), refresh(first, **key))
    assert [each.status_code for each in both] == [200, 200]

    tokens = [each.json()["refresh_token"] for each in both]
    last = await refresh(tokens[0], **{"idempotency-key": "of its next refresh"})
    assert last.status_code == 200
    late = await refresh(tokens[1], **key)
    assert (late.status_code, late.json()["code"]) == (401, "refresh_reused")
    heir = await refresh(last.json()["refresh_token"])
    assert heir.status_code == 401


async def test_another_key_spends_no_token_again(shop: Shop) -> None:
    ann = await shop.register()
    body = {"refresh_token": ann.tokens["refresh_token"]}
    path, mine = "/api/v1/auth/refresh", {"idempotency-key": "mine"}
    assert (await shop.client().post(path, json=body, headers=mine)).status_code == 200

    theirs = {"idempotency-key": "theirs"}
    answer = await shop.client().post(path, json=body, headers=theirs)

    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_reused")


async def can_act(shop: Shop, token: str) -> bool:
    return (await shop.client(token).get("/api/v1/library")).status_code == 200


async def test_an_access_token_refreshes_nothing(shop: Shop, buyer: Person) -> None:
    answer = await shop.client().post(
        "/api/v1/auth/refresh", json={"refresh_token": buyer.tokens["access_token"]}
    )

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


async def test_after_logging_out_the_session_is_over(shop: Shop) -> None:
    ann = await shop.register()

    assert (await ann.post("/api/v1/auth/logout")).status_code == 204

    answer = await shop.client().post(
        "/api/v1/auth/refresh", json={"refresh_token": ann.tokens["refresh_token"]}
    )
    assert answer.status_code == 401


async def test_without_a_token_or_with_a_bad_one_nobody_gets_in(shop: Shop) -> None:
    without = await shop.client().get("/api/v1/library")
    bad = await shop.client("not.a.token").get("/api/v1/library")
    basic = await shop.client().get("/api/v1/library", headers={"authorization": "Basic YTpi"})

    assert [each.status_code for each in (without, bad, basic)] == [401, 401, 401]
    assert without.headers["www-authenticate"] == "Bearer"
    assert "invalid_token" in bad.headers["www-authenticate"]


async def test_a_token_that_is_worth_nothing_keeps_nobody_from_what_needs_none(shop: Shop) -> None:
    ann, closed = await shop.register(), await shop.register()
    await closed.delete(f"/api/v1/users/{closed.id}")

    for stale in (shop.client("not.a.token"), closed):
        answers = [
            await stale.post("/api/v1/users", json=registration()),
            await stale.post("/api/v1/auth/login", json={"email": ann.email, "password": PASSWORD}),
            await stale.post("/api/v1/auth/password/forgot", json={"email": "nobody@example.com"}),
            await stale.post("/api/v1/auth/verify-email", json={"token": "wrong"}),
            await stale.post(
                "/api/v1/auth/password/reset", json={"token": "wrong", "password": PASSWORD}
            ),
            await stale.get("/api/v1/games"),
            await stale.get(f"/api/v1/games/{uuid4()}"),
        ]
        assert [answer.status_code for answer in answers] == [201, 200, 202, 422, 422, 200, 404]
    fresh = {"refresh_token": ann.tokens["refresh_token"]}
    assert (
        await shop.client("not.a.token").post("/api/v1/auth/refresh", json=fresh)
    ).status_code == 200


async def test_a_bad_token_makes_no_auditors(shop: Shop) -> None:
    answer = await shop.client("not.a.token").post(
        "/api/v1/users", json=registration(account_type="AUDITOR")
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "account_type_not_allowed")


async def mailed(shop: Shop, since: int, person: Person, template: str) -> list[str]:
    """The tokens in the mails to a person."""
    events = [each.event for each in await shop.core.log.read(since)]
    asked = [
        each
        for each in events
        if isinstance(each, NotificationRequested) and each.user_id == person.id
    ]
    return [each.params["token"] for each in asked if each.template == template and each.params]


async def test_a_mailed_token_verifies_the_address_once_and_for_all(shop: Shop) -> None:
    before = await shop.core.log.head()
    ann = await shop.register()
    (token,) = await shop.eventually(lambda: mailed(shop, before, ann, "welcome"))

    answers = [
        (await shop.client().post("/api/v1/auth/verify-email", json={"token": token}))
        for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [204, 204]
    seen = await ann.get(f"/api/v1/users/{ann.id}", headers=await shop.reached())
    assert (seen.json()["status"], seen.json()["email_verified"]) == ("ACTIVE", True)


async def test_a_new_address_is_verified_by_a_mail_of_its_own(shop: Shop) -> None:
    ann = await shop.register()
    before, path = await shop.core.log.head(), f"/api/v1/users/{ann.id}"
    await ann.put(path, json={"name": "Anna"})
    await ann.put(path, json={"email": f"{uuid4().hex}@example.com", "current_password": PASSWORD})
    (token,) = await shop.eventually(lambda: mailed(shop, before, ann, "verification"))

    assert (
        await shop.client().post("/api/v1/auth/verify-email", json={"token": token})
    ).status_code == 204
    seen = await ann.get(path, headers=await shop.reached())
    assert seen.json()["email_verified"] is True


async def test_a_verification_repeated_under_its_key_is_answered_as_the_first_time(
    shop: Shop,
) -> None:
    before = await shop.core.log.head()
    ann = await shop.register()
    (token,) = await shop.eventually(lambda: mailed(shop, before, ann, "welcome"))
    key, path = {"Idempotency-Key": uuid4().hex}, "/api/v1/auth/verify-email"
    first = await shop.client().post(path, json={"token": token}, headers=key)

    again = await shop.client().post(path, json={"token": token}, headers=key)
    other = await shop.client().post(path, json={"token": "wrong"}, headers=key)

    assert (again.status_code, again.headers["idempotent-replayed"]) == (204, "true")
    assert again.headers["event-position"] == first.headers["event-position"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_forgotten_password_asked_for_twice_under_a_key_is_one_mail_and_tells_nobody(
    shop: Shop,
) -> None:
    ann, bob = await shop.register(), await shop.register()
    before, key = await shop.core.log.head(), {"Idempotency-Key": uuid4().hex}

    async def forgot(email: str) -> httpx.Response:
        return await shop.client().post(
            "/api/v1/auth/password/forgot", json={"email": email}, headers=key
        )

    answers = [
        await forgot(email) for email in (ann.email, ann.email, "nobody@example.com", bob.email)
    ]

    assert {answer.status_code for answer in answers} == {202}
    assert not any("idempotent-replayed" in answer.headers for answer in answers)
    await shop.eventually(lambda: mailed(shop, before, bob, "password_reset"))
    assert len(await mailed(shop, before, ann, "password_reset")) == 1


async def test_a_password_reset_repeated_under_its_key_succeeds_again(shop: Shop) -> None:
    ann = await shop.register()
    before, key = await shop.core.log.head(), {"Idempotency-Key": uuid4().hex}
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    (token,) = await shop.eventually(lambda: mailed(shop, before, ann, "password_reset"))
    body = {"token": token, "password": "another password"}

    answers = [
        await shop.client().post("/api/v1/auth/password/reset", json=body, headers=key)
        for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1].headers["idempotent-replayed"] == "true"


async def test_a_wrong_mailed_token_is_refused(shop: Shop) -> None:
    answer = await shop.client().post("/api/v1/auth/verify-email", json={"token": "wrong"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_token")


async def test_a_forgotten_password_can_be_reset(shop: Shop) -> None:
    ann = await shop.register()
    before = await shop.core.log.head()
    asked = await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    nobody = await shop.client().post(
        "/api/v1/auth/password/forgot", json={"email": "nobody@example.com"}
    )
    assert (asked.status_code, nobody.status_code) == (202, 202)
    assert asked.content == nobody.content

    (token,) = await shop.eventually(lambda: mailed(shop, before, ann, "password_reset"))

    body = {"token": token, "password": "another password"}
    assert (await shop.client().post("/api/v1/auth/password/reset", json=body)).status_code == 204
    assert (await shop.client().post("/api/v1/auth/password/reset", json=body)).status_code == 422
    login = {"email": ann.email, "password": "another password"}
    assert (await shop.client().post("/api/v1/auth/login", json=login)).status_code == 200


async def test_a_person_sees_and_edits_only_themselves(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    path = f"/api/v1/users/{buyer.id}"

    assert (await buyer.get(path)).status_code == 200
    assert (await admin.get(path)).status_code == 200
    assert (await seller.get(path)).status_code == 403
    assert (await seller.put(path, json={"name": "Eve"})).status_code == 403
    assert (await seller.delete(path)).status_code == 403
    assert (await buyer.get("/api/v1/users")).status_code == 403


async def test_an_edit_based_on_an_old_version_is_refused(shop: Shop) -> None:
    ann = await shop.register()
    path = f"/api/v1/users/{ann.id}"
    tag = (await ann.get(path)).headers["etag"]

    first = await ann.put(path, json={"name": "Anna"}, headers={"If-Match": tag})
    second = await ann.put(path, json={"name": "Annie"}, headers={"If-Match": tag})
    weak = await ann.put(
        path, json={"name": "Annie"}, headers={"If-Match": f"W/{first.headers['etag']}"}
    )

    assert (first.status_code, first.json()["name"]) == (200, "Anna")
    assert first.headers["etag"] != tag
    assert (second.status_code, second.json()["code"]) == (412, "version_mismatch")
    assert weak.status_code == 412


async def test_what_a_client_has_already_is_not_sent_again(shop: Shop) -> None:
    ann = await shop.register()
    path = f"/api/v1/users/{ann.id}"
    seen = await ann.get(path)

    again = await ann.get(path, headers={"If-None-Match": f'"x", {seen.headers["etag"]}'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == seen.headers["etag"]


async def test_a_closed_account_is_locked_out(shop: Shop) -> None:
    ann = await shop.register()
    closed = await ann.delete(f"/api/v1/users/{ann.id}")
    assert closed.status_code == 204

    refused = await ann.get("/api/v1/library")
    login = await shop.client().post(
        "/api/v1/auth/login", json={"email": ann.email, "password": PASSWORD}
    )
    assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")
    assert (login.status_code, login.json()["code"]) == (403, "user_inactive")


async def test_a_forgotten_person_leaves_no_name(shop: Shop, admin: Person) -> None:
    ann = await shop.register(name="Ann of Green Gables")

    await ann.delete(f"/api/v1/users/{ann.id}?forget=true")

    left = await admin.get(f"/api/v1/users/{ann.id}", headers=await shop.reached())
    assert left.json()["status"] == "FORGOTTEN"
    assert "Green Gables" not in left.text
    assert ann.email not in left.text


async def test_admins_list_accounts_page_by_page(shop: Shop, admin: Person) -> None:
    new = [(await shop.register()).id for _ in range(3)]

    first = await admin.get("/api/v1/users?limit=2", headers=await shop.reached())
    link = first.headers["link"]
    second = await admin.get(link.removeprefix("<").split(">")[0])

    assert link.endswith('; rel="next"')
    assert [UUID(each["id"]) for each in [*first.json()["items"], *second.json()["items"]]][
        :3
    ] == new[::-1]
    assert (await admin.get("/api/v1/users?cursor=nonsense")).json()["code"] == "invalid_cursor"
    assert (await admin.get("/api/v1/users?limit=201")).status_code == 422


async def test_the_public_key_is_published(shop: Shop) -> None:
    answer = await shop.client().get("/.well-known/jwks.json")

    assert [key["kty"] for key in answer.json()["keys"]] == ["OKP"]


@pytest.mark.parametrize("path", ["", "/export"])
@pytest.mark.parametrize("position", [10**9, 2**63 - 1, 2**63, 10**400])
async def test_a_position_that_the_log_has_not_is_unknown(
    shop: Shop, buyer: Person, path: str, position: int
) -> None:
    answer = await buyer.get(
        f"/api/v1/users/{buyer.id}{path}", headers={"Min-Position": str(position)}
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "position_unknown")


async def test_a_position_may_have_leading_zeros_but_no_sign(shop: Shop, buyer: Person) -> None:
    for said, status in {"0" * 30 + "1": 200, "-1": 422, "1.5": 422, "²" * 20: 422}.items():
        answer = await buyer.get(
            f"/api/v1/users/{buyer.id}", headers={b"Min-Position": said.encode()}
        )
        assert answer.status_code == status, said
