"""The gateway is built before it serves: seconds of work, and more on a busy machine."""

import asyncio
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI

from api.app import create_app
from api.services import Services
from runtime.gateway.app import open_app
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues


async def test_while_the_application_is_built_the_event_loop_goes_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, turned = asyncio.get_running_loop(), threading.Event()

    def built(services: Services) -> FastAPI:
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(10), "the loop stands still"
        return create_app(services)

    monkeypatch.setattr("runtime.gateway.app.create_app", built)
    settings = Settings(home=tmp_path, database_url=database)
    async with (
        open_core(settings) as core,
        open_queues(core) as queues,
        open_app(core, queues) as app,
    ):
        assert app.state.services.log is core.log
