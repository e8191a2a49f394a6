"""A witness of one log's checkpoints, as https://c2sp.org/tlog-witness has it."""

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

from eventstore.proofs.merkle import is_consistent
from eventstore.proofs.notes import Checkpoint, PublicKey, SigningKey, parse


@dataclass
class Witness:
    """Knows the log's key once it is set. `held` is the last checkpoint that it signed."""

    url: str = ""
    log_key: PublicKey | None = None
    held: Checkpoint | None = None
    away: bool = False
    also: str = ""
    """Further lines of its answer."""
    asked: list[int] = field(default_factory=list)
    """The statuses that it answered."""
    key: SigningKey = field(default_factory=lambda: SigningKey("witness.example", b"w" * 32))

    async def add_checkpoint(self, request: web.Request) -> web.Response:
        answer = self._answer(await request.text())
        self.asked.append(answer.status)
        return answer

    def _answer(self, body: str) -> web.Response:
        if self.away:
            return web.Response(status=503)
        head, _, text = body.partition("\n\n")
        first, *path = head.split("\n")
        assert first.startswith("old ")
        old = int(first.removeprefix("old "))
        note = parse(text)
        assert self.log_key is not None
        note.signed_by([self.log_key])
        new = note.checkpoint
        held = self.held.size if self.held else 0
        if old > new.size:
            return web.Response(status=400)
        if old != held:
            return web.Response(status=409, text=f"{held}\n", content_type="text/x.tlog.size")
        if self.held is not None:
            hashes = [b64decode(line) for line in path]
            if not is_consistent(old, self.held.root, new.size, new.root, hashes):
                return web.Response(status=422, text="inconsistent")
        self.held = new
        return web.Response(text=self.key.line(new.text) + self.also)


@asynccontextmanager
async def running_witness() -> AsyncIterator[Witness]:
    witness = Witness()
    app = web.Application()
    app.router.add_post("/add-checkpoint", witness.add_checkpoint)
    async with TestServer(app) as server:
        witness.url = str(server.make_url("/add-checkpoint"))
        yield witness
