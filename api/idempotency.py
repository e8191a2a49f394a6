"""Idempotency-Key: a request under a known key is answered as the first one was, and nothing
happens twice.

The key, a fingerprint of what was asked and the ids of what was made commit with the events, so
nothing can come between. The answer is kept once it is known, encrypted under the caller's own key;
a replay that finds none yet makes it from the ids, as the first request would have. Refusals that
appended nothing are not kept: they are decided anew.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, TypeVar
from uuid import UUID, uuid5

import msgspec
from fastapi import Depends, Header, Request
from starlette.responses import Response

from api.answers import POSITION_HEADER
from api.auth import AnyCaller
from api.middleware.context import context_of
from api.problems import Problem
from commands.handler import Caller, CommandResult
from domain.errors import Refused
from eventstore.codec import decrypt, encrypt
from eventstore.log import AlreadyDone, IdempotencyKey, IdempotencyRecord
from eventstore.postgres_log import PostgresLog
from kit.clock import Clock

T = TypeVar("T")

LIFETIME = timedelta(hours=25)
"""A day and a little more, so that a client whose clock differs still finds its key within the
day."""

MAX_KEY = 255
REPLAYED_HEADER = "Idempotent-Replayed"

_NAMESPACE = UUID("0b8b4d2e-3c55-5f0f-9f7d-6a51de3c0002")
_FIELD = "answer"

Command = Callable[[IdempotencyKey | None], Awaitable[CommandResult[T]]]
Recall = Callable[[IdempotencyRecord], Awaitable[T]]
Reply = Callable[[CommandResult[T]], Awaitable[Response]]


def recorded_id(name: str) -> Recall[UUID]:
    """Recalls the id that the command recorded under this name."""

    async def recall(done: IdempotencyRecord) -> UUID:
        return UUID(done.result_ids[name])

    return recall


async def no_result(_: IdempotencyRecord) -> None:
    """Recalls a command without a result."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer as it was given."""

    status: int
    headers: dict[str, str]
    body: bytes


class StoredAnswers:
    """Finds, keeps and gives again what was answered under a key."""

    def __init__(self, log: PostgresLog, clock: Clock, secret: bytes) -> None:
        self._log = log
        self._clock = clock
        self._secret = secret
        self._running: set[UUID] = set()

    def key_for(self, scope: str, key: str, request: bytes) -> IdempotencyKey:
        """The log's record for a key. The fingerprint is keyed: a request may hold a password."""
        fingerprint = hmac.new(self._secret, request, hashlib.sha256).digest()
        return IdempotencyKey(
            uuid5(_NAMESPACE, f"{scope}\x1f{key}"),
            fingerprint,
            expires_at=self._clock.now() + LIFETIME,
        )

    @contextmanager
    def running(self, key: UUID) -> Iterator[None]:
        """Raises Problem 409 while this process works on another request under the key."""
        if key in self._running:
            raise Problem(
                409,
                "idempotency_in_progress",
                "the first request is still running",
                headers={"Retry-After": "1"},
            )
        self._running.add(key)
        try:
            yield
        finally:
            self._running.discard(key)

    async def done(self, once: IdempotencyKey) -> IdempotencyRecord | None:
        """The record under the key. Raises Problem 422 when it is of another request."""
        done = await self._log.done(once.key)
        return None if done is None else check_same_request(once, done)

    async def keep(self, once: IdempotencyKey, person_id: UUID, response: Response) -> None:
        """Keep an answer, for this person only; without a key of theirs (forgotten) nothing is
        kept."""
        person_key = (await self._log.keys.get([person_id])).get(person_id)
        if person_key is not None:
            kept = StoredAnswer(response.status_code, dict(response.headers), bytes(response.body))
            token = encrypt(msgspec.msgpack.encode(kept), person_key, once.key, _FIELD)
            await self._log.answer(once.key, token.encode())

    async def recall(self, done: IdempotencyRecord, person_id: UUID) -> Response | None:
        """The answer that was kept, if it can still be read."""
        person_key = (await self._log.keys.get([person_id])).get(person_id)
        if done.answer is None or person_key is None:
            return None
        text = decrypt(bytes(done.answer).decode(), person_key, done.key, _FIELD)
        if text is None:
            return None
        kept = msgspec.msgpack.decode(text, type=StoredAnswer)
        headers = {name: value for name, value in kept.headers.items() if name != "content-length"}
        return Response(kept.body, kept.status, headers)


def check_same_request(once: IdempotencyKey, done: IdempotencyRecord) -> IdempotencyRecord:
    """The record, if it is of the same request. Raises Problem 422 `idempotency_key_reused`."""
    if not hmac.compare_digest(bytes(done.fingerprint), once.fingerprint):
        raise Problem(422, "idempotency_key_reused", "this key was used for another request")
    return done


class Idempotent:
    """One request and the key that it came with, if any."""

    def __init__(self, answers: StoredAnswers, caller: Caller, once: IdempotencyKey | None) -> None:
        self._answers = answers
        self._caller = caller
        self._once = once

    @property
    def undisclosed(self) -> IdempotencyKey | None:
        """The record for a command whose answer must not tell whether it did anything, not even by
        refusing the key for another request: each request under the key has a record of its own."""
        once = self._once
        return once and msgspec.structs.replace(once, key=uuid5(once.key, once.fingerprint.hex()))

    async def answer(
        self, command: Command[T], recall: Recall[T], reply: Reply[T], *, keep: bool = True
    ) -> Response:
        """Run the command and reply; or, under a known key, reply as the first time.

        `recall` finds again what the command made, by its record: see `made`. `keep` is False for
        answers that hold secrets.
        """
        once, answers = self._once, self._answers
        if once is None:
            return await reply(await command(None))
        with answers.running(once.key):
            done = await answers.done(once)
            if done is None:
                try:
                    result = await command(once)
                except AlreadyDone as already:
                    done = check_same_request(once, already.done)
                except Refused:  # perhaps because another process has just done this very thing
                    done = await answers.done(once)
                    if done is None:
                        raise
                else:
                    return await self._first(once, result, reply, keep)
            return await self._again(once, done, recall, reply, keep)

    async def _first(
        self, once: IdempotencyKey, result: CommandResult[T], reply: Reply[T], keep: bool
    ) -> Response:
        response = await reply(result)
        if keep and result.position is not None and self._caller.user_id is not None:
            await self._answers.keep(once, self._caller.user_id, response)
        return response

    async def _again(
        self,
        once: IdempotencyKey,
        done: IdempotencyRecord,
        recall: Recall[T],
        reply: Reply[T],
        keep: bool,
    ) -> Response:
        person = self._caller.user_id
        response = await self._answers.recall(done, person) if keep and person is not None else None
        if response is None:
            response = await self._first(
                once, CommandResult(await recall(done), done.position), reply, keep
            )
        response.headers[REPLAYED_HEADER] = "true"
        response.headers.setdefault(POSITION_HEADER, str(done.position))
        return response


async def _idempotent(
    request: Request,
    caller: AnyCaller,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_KEY,
            description="Makes a repeat of this request safe; kept for a day.",
        ),
    ] = None,
) -> Idempotent:
    answers: StoredAnswers = request.app.state.answers
    if idempotency_key is None:
        return Idempotent(answers, caller, None)
    who = (
        f"ip:{context_of(request.scope).client_ip}"
        if caller.user_id is None
        else f"user:{caller.user_id}"
    )
    return Idempotent(
        answers, caller, answers.key_for(who, idempotency_key, await _request_content(request))
    )


async def _request_content(request: Request) -> bytes:
    """What is asked for, in one form: the operation (not its URL: aliases share it), what it is
    about, and the body."""
    operation = request.scope["endpoint"].__name__
    body = await request.body()
    try:
        return _canonical([operation, request.path_params, json.loads(body) if body else None])
    except (ValueError, RecursionError):
        # no JSON, or nested as deep as no operation's: it was sent all the same
        return _canonical([operation, request.path_params, body.hex()])


def _canonical(asked: list[object]) -> bytes:
    return json.dumps(asked, sort_keys=True, default=str).encode()


Idempotency = Annotated[Idempotent, Depends(_idempotent)]
