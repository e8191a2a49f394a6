"""What statements cost the server: buffers and time, by EXPLAIN (ANALYZE, BUFFERS)."""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Any

import msgspec
import psycopg

TRIES = 5
"""How often a statement is run; the least time counts, when its pages are in memory."""

Statement = tuple[Any, Any]
"""A query and its values."""


class Cost(msgspec.Struct, frozen=True):
    """Blocks of 8 kB that statements looked at, the server's milliseconds for planning and
    execution, and this process's CPU."""

    statements: int
    buffers: int
    server_ms: float
    cpu_ms: float
    plans: list[str]

    @property
    def ms(self) -> float:
        """This process's CPU and the server's time."""
        return self.cpu_ms + self.server_ms


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """Collect the statements that are run in the block."""
    found: list[Statement] = []
    original = psycopg.AsyncCursor.execute

    async def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        found.append((query, params))
        return await original(self, query, params, **options)

    psycopg.AsyncCursor.execute = execute  # type: ignore[method-assign]
    try:
        yield found
    finally:
        psycopg.AsyncCursor.execute = original  # type: ignore[method-assign]


async def cost(conn: psycopg.Connection, ask: Callable[[], Awaitable[Any]]) -> Cost:
    """What a query costs once everything that it needs is in memory, and it has nothing to write: a
    load may take a snapshot."""
    await ask()
    while True:
        with recorded() as statements:
            await ask()
        if not any(_writes(query) for query, _ in statements):
            break
    began = process_time()
    for _ in range(TRIES):
        await ask()
    cpu_ms = (process_time() - began) / TRIES * 1000
    explained = [_explained(conn, *each) for each in statements if _can_be_explained(each[0])]
    return Cost(
        len(statements),
        sum(buffers for buffers, _, _ in explained),
        sum(ms for _, ms, _ in explained),
        cpu_ms,
        [plan for _, _, plan in explained],
    )


def _writes(query: Any) -> bool:
    return re.search(r"\b(INSERT INTO|UPDATE|DELETE FROM)\b", _text(query)) is not None


def _can_be_explained(query: Any) -> bool:
    return _text(query).startswith(("SELECT", "WITH"))


def _text(query: Any) -> str:
    return (query.decode() if isinstance(query, bytes) else str(query)).lstrip()


def _explained(conn: psycopg.Connection, query: Any, values: Any) -> tuple[int, float, str]:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_text(query)}"
    found = []
    for _ in range(TRIES):
        row = conn.execute(explain.encode(), values).fetchone()
        assert row is not None
        (plan,) = row[0]
        top = plan["Plan"]
        ms = plan["Planning Time"] + plan["Execution Time"]
        found.append((top["Shared Hit Blocks"] + top["Shared Read Blocks"], ms))
    buffers, ms = min(found)
    return buffers, ms, ", ".join(sorted(_scans(plan["Plan"])))


def _scans(node: dict[str, Any]) -> Iterator[str]:
    """How each table is read."""
    if "Relation Name" in node:
        yield f"{node['Node Type']} {node['Relation Name']} {node.get('Index Name', '')}".strip()
    for inner in node.get("Plans", ()):
        yield from _scans(inner)
