"""Message DB (https://docs.eventide-project.org/user-guide/message-db/): its own SQL functions.

Each append is one call of `write_message` with the expected version, over asynchronous psycopg.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.callers import Append, append_to_own_streams, run
from benchmarks.events import SOME, FundsAdded
from benchmarks.measuring import Sample
from benchmarks.peers.npm import node_modules
from benchmarks.server import Server

WRITE = "SELECT message_store.write_message(%s, %s, %s, %s, NULL, %s)"

TEMPLATE = "message_db"
STEPS = ("schema", "types", "tables", "functions", "indexes", "views")
"""The folders of its SQL, in the order of its install.sh. Roles and privileges are left out: the
benchmark's one role owns everything. So is the extension pgcrypto, whose gen_random_uuid PostgreSQL
has of its own since version 13."""


def append(server: Server, seconds: float, callers: int) -> Sample:
    """Appends of one event by connections at once. Raises Missing."""
    if TEMPLATE not in server.templates:
        server.template(TEMPLATE, _install)

    async def main(url: str) -> Sample:
        async with AsyncExitStack() as stack:
            appends = [
                _writing(await stack.enter_async_context(await _connect(url)))
                for _ in range(callers)
            ]
            return await append_to_own_streams(appends, seconds)

    with server.fresh(TEMPLATE) as url:
        return run(main(url))


async def _connect(url: str) -> psycopg.AsyncConnection:
    conn = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await conn.execute("SET search_path TO message_store, public")
    return conn


def _writing(conn: psycopg.AsyncConnection) -> Append:
    cursor = conn.cursor(binary=True)
    data = Jsonb({"amount_cents": SOME.amount_cents, "currency": SOME.currency,
                  "reference": str(SOME.reference)})  # fmt: skip

    async def write(stream_id: UUID, version: int) -> object:
        # Its versions begin with 0; a new stream's expected version is -1.
        await cursor.execute(
            WRITE,
            (str(uuid4()), f"funds-{stream_id}", FundsAdded.NAME, data, version - 2),
            prepare=True,
        )
        return await cursor.fetchone()

    return write


def _install(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET search_path TO message_store, public")
        for path in _scripts(node_modules() / "@eventide" / "message-db" / "database"):
            conn.execute(path.read_text().encode())


def _scripts(database: Path) -> Iterator[Path]:
    """Its SQL files: functions in the order in which its installer names them."""
    for step in STEPS:
        installer = database / f"install-{step}.sh"
        if step == "functions":
            words = installer.read_text().split()
            yield from (
                database / word.removeprefix("$base/")
                for word in words
                if word.startswith("$base/functions/")
            )
        else:
            yield from sorted((database / step).glob("*.sql"))
