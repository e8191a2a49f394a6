"""Drives a server with wrk."""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec

from benchmarks.measuring import Sample
from deploy.servers.wrk import wrk_program

SCRIPT = Path(__file__).with_name("replay.lua")
CLIENTS = 8
_MARK = "RESULT "


class Failed(Exception):
    """A server answered unexpectedly; the message contains the server and the answer."""


class Request(msgspec.Struct, frozen=True):
    """A request; `token` is the index of the caller's token, None without one."""

    method: str
    path: str
    token: int | None = None
    body: str = ""


class _Result(msgspec.Struct):
    requests: int
    microseconds: int
    not_2xx: int
    broken: int
    exhausted: bool
    quantiles: list[int]


def drive(
    base: str,
    requests: Sequence[Request],
    tokens: Sequence[str],
    *,
    connections: int,
    seconds: float,
) -> Sample:
    """Send requests over this many connections, each as soon as the previous one is answered; when
    all are sent, queries start over. The sample's latencies are a thousand quantiles. Raises Failed
    unless all answers are 2xx, or when there are too few commands."""
    with tempfile.NamedTemporaryFile("w", suffix=".requests") as file:
        file.writelines(f"T {token}\n" for token in tokens)
        file.writelines(map(_line, requests))
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10s", "-s", str(SCRIPT)]
        command = [wrk_program(), *options, base, "--", file.name, uuid4().hex]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    _, mark, found = said.stdout.partition(_MARK)
    if not mark:
        raise Failed(f"wrk ended with {said.returncode}: {said.stdout}{said.stderr}")
    result = msgspec.json.decode(found.strip(), type=_Result)
    what = f"{requests[0].method} {requests[0].path} at {base}"
    if result.not_2xx or result.broken:
        raise Failed(
            f"{what}: of {result.requests} answers {result.not_2xx} were errors, and"
            f" {result.broken} requests were not answered"
        )
    if result.exhausted:
        raise Failed(f"{what}: {len(requests)} commands were not enough for {seconds:g} s")
    latencies = [each / 1e6 for each in result.quantiles]
    return Sample(result.requests, result.microseconds / 1e6, latencies)


async def send(base: str, requests: Iterable[Request], tokens: Sequence[str]) -> None:
    """Send each of these requests once, a few at a time. Raises Failed unless all answers are
    2xx."""
    async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False) as http:

        async def one(request: Request) -> None:
            headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
            if request.token is not None:
                headers["Authorization"] = f"Bearer {tokens[request.token]}"
            answer = await http.request(
                request.method, request.path, content=request.body, headers=headers
            )
            if not answer.is_success:
                said = f"{answer.status_code} {answer.text}"
                raise Failed(f"{request.method} {request.path} at {base} was answered {said}")

        left = iter(requests)

        async def client() -> None:
            for request in left:
                await one(request)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())


def _line(request: Request) -> str:
    number = 0 if request.token is None else request.token + 1
    return f"{request.method}\t{request.path}\t{number}\t{request.body}\n"
