"""Acts are recorded before they are done, and again when they have ended."""

import asyncio
from collections.abc import Sequence

import pytest

from commands.acts import Asked
from domain.acts import ActBegun, ActEnded
from domain.errors import NotFound
from domain.events import Event
from domain.named_texts import NamedText
from eventstore.log import LogUnavailable
from tests.support.commands import ADMIN, Shop

BEGUN = ActBegun(act="projection.pause", target="orders", reason="a test")


async def recorded(shop: Shop) -> Sequence[Event]:
    return [each.event for each in await shop.log.read()]


async def test_an_act_is_recorded_before_it_is_done_and_after(shop: Shop) -> None:
    async with shop.acts.recorded(
        ADMIN, "projection.pause", target="orders", reason="a test"
    ) as act:
        assert await recorded(shop) == [BEGUN]
        act.affected = 1
    assert await recorded(shop) == [BEGUN, ActEnded(affected=1)]
    assert act.position == await shop.log.head()
    assert {each.env.actor for each in await shop.log.read()} == {ADMIN.actor}


@pytest.mark.parametrize(
    ("error", "worded"),
    [
        (NotFound("projection_not_found"), "projection_not_found"),
        (OSError("the disk is full"), "OSError: the disk is full"),
    ],
    ids=["a refusal", "any other error"],
)
async def test_an_act_that_fails_says_why(shop: Shop, error: Exception, worded: str) -> None:
    with pytest.raises(type(error)):
        async with shop.acts.recorded(ADMIN, "projection.pause", target="orders", reason="a test"):
            raise error
    assert await recorded(shop) == [BEGUN, ActEnded(error=worded)]


async def test_an_act_on_several_things_is_one_on_each_recorded_together(shop: Shop) -> None:
    things = [Asked("orders"), Asked("games", {"storage": "games_2"})]
    async with shop.acts.all_recorded(ADMIN, "projection.pause", "a test", *things) as begun:
        first, second = await shop.log.read()
        assert [first.event, second.event] == [
            ActBegun(act="projection.pause", target="orders", reason="a test"),
            ActBegun(
                act="projection.pause",
                target="games",
                reason="a test",
                details=(NamedText("storage", "games_2"),),
            ),
        ]
        begun[0].affected, begun[1].error = 1, "projection_not_found"
    ended = {each.env.stream_id: each.event for each in (await shop.log.read())[2:]}
    assert ended == {
        things[0].act_id: ActEnded(affected=1),
        things[1].act_id: ActEnded(error="projection_not_found"),
    }


async def test_an_act_that_is_interrupted_has_only_begun(shop: Shop) -> None:
    started = asyncio.Event()

    async def act() -> None:
        async with shop.acts.recorded(ADMIN, "projection.pause", target="orders", reason="a test"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(act())
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await recorded(shop) == [BEGUN]


async def test_nothing_is_done_that_cannot_be_recorded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(shop.log, "append", refuse)
    done = False
    with pytest.raises(LogUnavailable):
        async with shop.acts.recorded(ADMIN, "projection.pause"):
            done = True
    assert not done


async def test_what_is_done_stays_done_if_its_end_cannot_be_recorded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise LogUnavailable("the disk is full")

    async with shop.acts.recorded(ADMIN, "projection.pause", target="orders", reason="a test"):
        monkeypatch.setattr(shop.log, "append", refuse)
    assert await recorded(shop) == [BEGUN]
    assert "is not recorded" in caplog.text
