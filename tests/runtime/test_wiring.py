"""How processes are composed."""

import asyncio
from collections.abc import AsyncIterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

from commands import workers
from commands.caller import SYSTEM
from commands.ports.queue import JobWorker
from commands.services import Commands
from domain.errors import Conflict
from eventstore.database.postgres import connect
from projections.engine.dropping import exclusively
from runtime.gateway.app import Rebuilder
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from runtime.wiring.search import all_models
from runtime.wiring.work import WORK, open_queues, reactors_of

SERVICES = {
    name for name, attribute in vars(Commands).items() if isinstance(attribute, cached_property)
}


@pytest.fixture
async def core(database: str, tmp_path: Path) -> AsyncIterator[Core]:
    async with open_core(Settings(home=tmp_path, database_url=database)) as core:
        yield core


def made(commands: Commands) -> set[str]:
    return SERVICES & vars(commands).keys()


async def test_a_process_opens_no_adapter_that_it_does_not_need(core: Core, tmp_path: Path) -> None:
    await core.commands.accounts.register(SYSTEM, email="a@example.com", password=None, name="Ann")

    assert made(core.commands) == {"accounts"}
    assert not (tmp_path / "logs").exists()


async def test_the_gateway_makes_every_service_at_its_start(core: Core, tmp_path: Path) -> None:
    core.commands.make_all()

    assert made(core.commands) == SERVICES
    assert (tmp_path / "logs" / "payment-webhook.txt").exists()


async def test_each_kind_of_work_has_a_queue_with_its_pauses(core: Core) -> None:
    async with open_queues(core) as queues:
        assert list(queues) == [work.queue for work in WORK]
        assert [queue.name for queue in queues.values()] == list(queues)
        assert [queue.max_attempts for queue in queues.values()] == [  # type: ignore[attr-defined]
            len(work.backoff(core.settings)) + 1 for work in WORK
        ]


async def test_each_worker_has_its_work(core: Core) -> None:
    for module in walk_packages(workers.__path__, "commands.workers."):
        import_module(module.name)
    ours = {each for each in JobWorker.__subclasses__() if each.__module__.startswith("commands.")}

    assert {type(work.worker(core)) for work in WORK} == ours


async def test_no_two_reactors_have_one_name(core: Core) -> None:
    """A reactor's checkpoint is stored under its name."""
    async with open_queues(core) as queues:
        names = [reactor.name for reactor in reactors_of(core, queues)]

    assert len(set(names)) == len(names) > len(WORK)


async def test_a_rebuild_that_another_process_runs_is_not_begun(core: Core) -> None:
    models = await asyncio.to_thread(all_models, core.settings)
    rebuilder = Rebuilder(core, models)
    with (
        connect(core.url, "another process") as conn,
        exclusively(conn, "games"),
        pytest.raises(Conflict, match="games is being rebuilt already"),
    ):
        await rebuilder.start("games", SYSTEM, None)
    assert await rebuilder.start("games", SYSTEM, None)
