"""Changing the password and the e-mail address: who may, and what it requires. One mailbox has one
account."""

from functools import partial
from uuid import uuid4

import pytest

from domain.notifications import NotificationRequested
from tests.support.shops.gateway import PASSWORD, Person, Shop

ME = "/api/v1/users/me"
WITH_PASSWORD = {"current_password": PASSWORD}


def some_email() -> str:
    return f"{uuid4().hex}@example.com"


async def mailed(shop: Shop, since: int, person: Person, template: str) -> list[dict[str, str]]:
    """The variables of the mails requested for a person since a position."""
    events = [each.event for each in await shop.core.log.read(since)]
    asked = [
        each
        for each in events
        if isinstance(each, NotificationRequested) and each.user_id == person.id
    ]
    return [dict(each.params or {}) for each in asked if each.template == template]


@pytest.mark.parametrize("path", [ME, "/users/me"])
async def test_one_need_not_know_ones_id(shop: Shop, path: str) -> None:
    ann = await shop.register()

    seen = await ann.get(path)
    renamed = await ann.put(path, json={"name": "Anna"}, headers={"If-Match": seen.headers["etag"]})

    assert (seen.status_code, seen.json()["id"]) == (200, str(ann.id))
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Anna")
    assert (await shop.client().get(path)).status_code == 401
    assert (await ann.delete(path)).status_code == 204
    assert (await ann.get(path)).json()["code"] == "session_ended"


@pytest.mark.parametrize("change", [{"password": "another password"}, {"email": "{new}"}])
async def test_a_new_password_or_address_takes_the_current_password(
    shop: Shop, change: dict[str, str]
) -> None:
    ann = await shop.register()
    body = {name: value.format(new=some_email()) for name, value in change.items()}

    missing = await ann.put(ME, json=body)
    wrong = await ann.put(ME, json={**body, "current_password": "wrong password"})
    right = await ann.put(ME, json={**body, **WITH_PASSWORD})

    assert (missing.status_code, missing.json()["code"]) == (422, "current_password_missing")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "current_password_wrong")
    assert right.status_code == 200


async def test_other_changes_need_no_password(shop: Shop) -> None:
    ann = await shop.register()

    answer = await ann.put(ME, json={"name": "Anna", "region": "BR", "email": ann.email})

    assert (answer.status_code, answer.json()["name"]) == (200, "Anna")


async def test_an_admin_needs_it_for_themselves_only(shop: Shop, admin: Person) -> None:
    ann = await shop.register()

    changed = await admin.put(
        f"/api/v1/users/{ann.id}", json={"email": some_email(), "password": "given by an admin"}
    )
    own = await admin.put(f"/api/v1/users/{admin.id}", json={"password": "another password"})

    assert changed.status_code == 200
    assert (own.status_code, own.json()["code"]) == (422, "current_password_missing")
    assert (await ann.get(ME)).json()["code"] == "session_ended"


@pytest.mark.parametrize("by_admin", [False, True])
@pytest.mark.parametrize(
    ("field", "template"), [("email", "email_changed"), ("password", "password_changed")]
)
async def test_the_accounts_former_address_gets_a_mail(
    shop: Shop, admin: Person, field: str, template: str, by_admin: bool
) -> None:
    ann, before = await shop.register(), await shop.core.log.head()
    change = {field: some_email()}

    if by_admin:
        await admin.put(f"/api/v1/users/{ann.id}", json=change)
    else:
        await ann.put(ME, json={**change, **WITH_PASSWORD})

    (told,) = await mailed(shop, before, ann, template)
    assert (told["address"], bool(told["token"])) == (ann.email, True)


# -- tokens by mail --------------------------------------------------------------------------------


async def test_a_reset_token_is_worth_nothing_once_the_address_or_the_password_is_another(
    shop: Shop,
) -> None:
    for change in ({"email": some_email()}, {"password": "another password"}):
        ann, before = await shop.register(), await shop.core.log.head()
        await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
        (mail,) = await shop.eventually(partial(mailed, shop, before, ann, "password_reset"))
        await ann.put(ME, json={**change, **WITH_PASSWORD})

        body = {"token": mail["token"], "password": "of a thief"}
        answer = await shop.client().post("/api/v1/auth/password/reset", json=body)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_token")


async def test_a_reset_token_serves_after_a_login_and_a_new_name(shop: Shop) -> None:
    ann, before = await shop.register(), await shop.core.log.head()
    await shop.client().post("/api/v1/auth/password/forgot", json={"email": ann.email})
    (mail,) = await shop.eventually(lambda: mailed(shop, before, ann, "password_reset"))
    await shop.client().post("/api/v1/auth/login", json={"email": ann.email, "password": PASSWORD})
    await ann.put(ME, json={"name": "Anna"})

    body = {"token": mail["token"], "password": "another password"}

    assert (await shop.client().post("/api/v1/auth/password/reset", json=body)).status_code == 204


async def test_verification_is_mailed_again_to_who_asks_and_has_not_verified(shop: Shop) -> None:
    ann, before = await shop.register(), await shop.core.log.head()
    path = "/api/v1/auth/verify-email/resend"

    answers = [
        await ann.post(path),
        await shop.client().post(path, json={"email": ann.email.upper()}),
        await shop.client().post(path, json={"email": some_email()}),
        await shop.client().post(path),
        await shop.client().post(path, json={"email": 7}),
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 401, 422]
    found = await shop.eventually(
        lambda: mailed(shop, before, ann, "verification"), lambda mails: len(mails) == 2
    )
    for mail in found:
        assert (
            await shop.client().post("/api/v1/auth/verify-email", json={"token": mail["token"]})
        ).status_code == 204
    since = await shop.core.log.head()
    await ann.post(path)
    assert await mailed(shop, since, ann, "verification") == []


@pytest.mark.parametrize(
    "path", ["/api/v1/auth/password/forgot", "/api/v1/auth/verify-email/resend"]
)
async def test_an_answer_does_not_tell_whether_the_address_is_known(shop: Shop, path: str) -> None:
    ann = await shop.register()

    known, unknown = [
        await shop.client().post(path, json={"email": each}) for each in (ann.email, some_email())
    ]

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    told = {"traceparent", "x-correlation-id"}
    assert {k: v for k, v in known.headers.items() if k not in told} == {
        k: v for k, v in unknown.headers.items() if k not in told
    }
    assert "event-position" not in known.headers


async def test_a_replayed_login_is_over_with_the_session_that_it_opened(shop: Shop) -> None:
    ann, key = await shop.register(), {"Idempotency-Key": uuid4().hex}
    body = {"email": ann.email, "password": PASSWORD}
    await shop.client().post("/api/v1/auth/login", json=body, headers=key)
    await ann.put(ME, json={"email": some_email(), **WITH_PASSWORD})

    again = await shop.client().post("/api/v1/auth/login", json=body, headers=key)

    assert (again.status_code, again.json()["code"]) == (401, "invalid_token")


# -- spellings of addresses and passwords ----------------------------------------------------------


async def register(shop: Shop, email: str, password: str = PASSWORD) -> tuple[int, str]:
    answer = await shop.client().post(
        "/api/v1/users", json={"email": email, "password": password, "name": "Ann"}
    )
    return answer.status_code, answer.json().get("code") or answer.json()["email"]


async def log_in(shop: Shop, email: str, password: str = PASSWORD) -> str | None:
    answer = await shop.client().post(
        "/api/v1/auth/login", json={"email": email, "password": password}
    )
    return answer.json()["user"]["email"] if answer.status_code == 200 else None


async def test_an_address_is_kept_as_typed_and_its_mailbox_has_one_account(
    shop: Shop, admin: Person
) -> None:
    local = uuid4().hex
    typed = f"{local}@Bücher.example"
    others = [
        f"{local}@xn--bcher-kva.example",
        f"{local}@bu\u0308cher.example",
        f"{local}@ｂüｃｈｅｒ.example",
    ]

    assert await register(shop, typed) == (201, typed)
    for other in others:
        assert await register(shop, other) == (409, "email_taken")
        assert await log_in(shop, other) == typed
        found = await admin.get(
            "/api/v1/users", params={"email": other}, headers=await shop.reached()
        )
        assert [each["email"] for each in found.json()["items"]] == [typed]


@pytest.mark.parametrize(
    ("one", "other"),
    [("{}@faß.example", "{}@fass.example"), ("groß{}@x.example", "gross{}@x.example")],
)
async def test_two_mailboxes_have_two_accounts(shop: Shop, one: str, other: str) -> None:
    one, other = one.format("q"), other.format("q")
    assert await register(shop, one, "the first password") == (201, one)
    assert await log_in(shop, other, "the first password") is None
    assert await register(shop, other, "the second password") == (201, other)
    assert await log_in(shop, one, "the first password") == one
    assert await log_in(shop, one, "the second password") is None
    assert await log_in(shop, other, "the second password") == other


@pytest.mark.parametrize(
    "email",
    [
        *(
            "\u200bann@example.com",
            "<ann@example.com>",
            "ann@example.com>",
            " ann@example.com",
            "ann@example.com\n",
        ),
        *(
            "ann\x7f@example.com",
            "ann\u202e@example.com",
            "a\0nn@example.com",
            "",
            "ann\r\n@b.de",
        ),
        *(f"{'a' * 300}@example.com", f"ann@{'example.' * 120}com"),
    ],
)
async def test_what_is_no_address_is_refused_wherever_it_is_given(shop: Shop, email: str) -> None:
    ann = await shop.register()

    assert await register(shop, email) == (422, "invalid_email")
    assert await register(shop, "a" * 1001) == (422, "invalid_email")
    changed = await ann.put(ME, json={"email": email, **WITH_PASSWORD})
    assert (changed.status_code, changed.json()["code"]) == (422, "invalid_email")
    assert await log_in(shop, email) is None
    assert (
        await shop.client().post("/api/v1/auth/password/forgot", json={"email": email})
    ).status_code == 202


@pytest.mark.parametrize(
    ("path", "answered"),
    [
        ("/api/v1/users", (422, "invalid_email")),
        ("/api/v1/auth/login", (401, "invalid_credentials")),
        ("/api/v1/auth/password/forgot", (202, None)),
        ("/api/v1/auth/verify-email/resend", (202, None)),
    ],
)
@pytest.mark.parametrize(
    "email", [r"\ud800ann@example.com", r"ann@\udfffexample.com", r"\u0000@example.com"]
)
async def test_half_a_character_is_no_address_either(
    shop: Shop, path: str, answered: tuple[int, str | None], email: str
) -> None:
    named = '"password": "correct horse battery", "name": "Ann", ' if path.endswith("users") else ""
    named = '"password": "correct horse battery", ' if path.endswith("login") else named

    answer = await shop.client().post(
        path, content=f'{{{named}"email": "{email}"}}', headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json().get("code") if answer.content else None) == answered


async def test_an_address_that_was_left_is_free_again(shop: Shop) -> None:
    ann = await shop.register()
    await ann.put(ME, json={"email": some_email(), **WITH_PASSWORD})

    assert await register(shop, ann.email) == (201, ann.email)


async def test_an_account_is_not_taken_back_to_an_address_that_has_another_account(
    shop: Shop,
) -> None:
    ann, before = await shop.register(), await shop.core.log.head()
    await ann.put(ME, json={"email": some_email(), **WITH_PASSWORD})
    (mail,) = await mailed(shop, before, ann, "email_changed")
    await register(shop, ann.email)

    body = {"token": mail["token"], "password": "another password"}
    answer = await shop.client().post("/api/v1/auth/password/reset", json=body)

    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


async def test_a_password_is_the_same_however_the_keyboard_spells_it(shop: Shop) -> None:
    composed, apart = "s\u00e9same ouvre-toi", "se\u0301same\u00a0ouvre-toi"
    email = some_email()
    await register(shop, email, apart)

    assert await log_in(shop, email, composed) == email
    assert await log_in(shop, email, apart) == email
    assert await log_in(shop, email, "sesame ouvre-toi") is None


async def test_a_long_password_of_accents_is_refused_and_no_failure(shop: Shop) -> None:
    email, endless = some_email(), "a" + "\u0301\u0323" * 2000

    assert await register(shop, email, endless) == (422, "weak_password")
    assert await log_in(shop, email, endless) is None
