"""Accounts of the first releases, which identified e-mail addresses by their case-folded text."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from adapters.passwords import Argon2Hasher
from commands.accounts.mailboxes import mailboxes_claimed
from commands.aggregates import CLAIM
from commands.caller import SYSTEM
from domain.claims import ClaimTaken
from domain.errors import Conflict, Unauthorized
from domain.identity import UserRegistered
from domain.ids import claim_id
from eventstore.log import StreamAppend
from kit.uuid7 import uuid7
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core

PASSWORD = "correct horse battery"


@pytest_asyncio.fixture
async def core(database: str, tmp_path: Path) -> AsyncIterator[Core]:
    hasher = Argon2Hasher(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    async with open_core(Settings(home=tmp_path, database_url=database), hasher=hasher) as core:
        yield core


async def old_account(core: Core, typed: str) -> UUID:
    """An account as the first releases made it: the folded text is stored, and claimed."""
    user_id, folded = uuid7(), typed.strip().casefold()
    digest = hmac.new(core.secrets.pepper, folded.encode(), hashlib.sha256).hexdigest()
    await core.log.keys.create([user_id])
    registered = UserRegistered(
        user_id=user_id,
        account_type="BUYER",
        region="DE",
        email=folded,
        name="Ann",
        email_digest=digest,
        password_hash=await core.adapters.hasher.hash(PASSWORD),
    )
    claim = claim_id("email", digest)
    await core.log.append(
        [
            StreamAppend(user_id, 0, [registered]),
            StreamAppend(claim, 0, [ClaimTaken(kind="email", holder_id=user_id)]),
        ]
    )
    return user_id


async def who_logs_in(core: Core, email: str, password: str = PASSWORD) -> UUID | None:
    try:
        return (
            await core.commands.logins.log_in(SYSTEM, email=email, password=password)
        ).value.user.user_id
    except Unauthorized:
        return None


async def react(core: Core) -> None:
    """As the worker does when this release first starts."""
    reactor = mailboxes_claimed(core.handler, core.commands.mailboxes)
    for recorded in await core.log.read(0):
        await reactor.react(recorded)


@pytest.mark.parametrize(
    "typed", ["Ann@Example.com", "groß@x.example", "n@bücher.example", "\u200bann@x.example"]
)
@pytest.mark.parametrize("reacted", [False, True])
async def test_their_owners_log_in_as_ever(core: Core, typed: str, reacted: bool) -> None:
    ann = await old_account(core, typed)
    if reacted:
        await react(core)

    assert await who_logs_in(core, typed) == ann
    assert await who_logs_in(core, typed.casefold()) == ann
    assert await who_logs_in(core, typed, "another password") is None


@pytest.mark.parametrize("again", ["n@bücher.example", "N@BÜCHER.example"])
async def test_their_mailbox_has_no_second_account_even_before_it_is_claimed(
    core: Core, again: str
) -> None:
    await old_account(core, "n@bücher.example")

    with pytest.raises(Conflict, match="email_taken"):
        await core.commands.accounts.register(SYSTEM, email=again, password=PASSWORD, name="Ben")


@pytest.mark.parametrize(
    "again", ["n@xn--bcher-kva.example", "n@bu\u0308cher.example", "n@ｂücher.example"]
)
async def test_once_it_is_claimed_no_spelling_gets_it(core: Core, again: str) -> None:
    ann = await old_account(core, "n@bücher.example")
    await react(core)

    with pytest.raises(Conflict, match="email_taken"):
        await core.commands.accounts.register(SYSTEM, email=again, password=PASSWORD, name="Ben")
    assert await who_logs_in(core, again) == ann


async def test_a_mailbox_that_was_only_taken_for_the_same_has_an_account_of_its_own(
    core: Core,
) -> None:
    old = await old_account(core, "bob@fass.example")
    await react(core)

    new = (
        await core.commands.accounts.register(
            SYSTEM, email="bob@faß.example", password="of the other", name="Bob"
        )
    ).value

    assert await who_logs_in(core, "bob@faß.example", "of the other") == new.user_id
    assert await who_logs_in(core, "bob@fass.example") == old


async def test_of_two_accounts_of_one_mailbox_each_is_found_by_its_own_spelling(core: Core) -> None:
    first, second = (
        await old_account(core, "n@bücher.example"),
        await old_account(core, "n@bu\u0308cher.example"),
    )
    await react(core)

    assert await who_logs_in(core, "n@xn--bcher-kva.example") == first
    assert {await who_logs_in(core, "n@bücher.example"), first} == {first}
    assert await core.commands.mailboxes.holders("n@bu\u0308cher.example") == [
        await core.commands.accounts.get(first),
        await core.commands.accounts.get(second),
    ]


async def test_all_that_was_claimed_is_free_once_the_account_has_another_address(
    core: Core,
) -> None:
    ann = await old_account(core, "n@bücher.example")
    await react(core)

    await core.commands.accounts.update(SYSTEM, ann, email="ann@example.com")

    for spelling in ("n@bücher.example", "n@xn--bcher-kva.example"):
        assert await core.commands.mailboxes.find(spelling) is None
    claim = await core.repository.state(
        CLAIM, claim_id("email", core.commands.mailboxes.digest("ann@example.com"))
    )
    assert claim is not None
    assert (claim.held, claim.holder_id) == (True, ann)


async def test_a_password_that_was_hashed_as_typed_still_opens(core: Core) -> None:
    apart = "se\u0301same ouvre-toi"
    ann = await old_account(core, "ann@example.com")
    raw = core.adapters.hasher._hasher.hash(apart)  # type: ignore[attr-defined]
    user = await core.commands.accounts.get(ann)

    assert await core.adapters.hasher.matches(raw, apart)
    assert not await core.adapters.hasher.matches(raw, "s\u00e9same ouvre-toi")
    assert await core.adapters.hasher.matches(user.password_hash, PASSWORD)
