"""Idempotency-Key: a repeated request gets the first answer, and takes effect once.

The key, a fingerprint of the request and the ids that the command recorded are committed together
with its events. The answer is stored right after it was sent, encrypted under the caller's own key.
A replay before that builds the answer from the recorded ids, as the first request would have.
Refusals that appended nothing are not stored; a repeat decides again.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, NamedTuple, TypeVar
from uuid import UUID, uuid5

import msgspec
import psycopg
from fastapi import Depends, Header, Request
from starlette.background import BackgroundTask
from starlette.responses import Response

from api.answers import POSITION_HEADER
from api.auth import AnyCaller
from api.middleware.context import context_of
from api.problems import Problem
from commands.caller import Caller
from commands.handler import CommandResult
from domain.errors import Refused
from eventstore.codec import decrypt, encrypt
from eventstore.gathering import Gatherer
from eventstore.log import AlreadyDone, IdempotencyKey, IdempotencyRecord, LogUnavailable
from eventstore.postgres_log import PostgresLog
from kit.clock import Clock

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIFETIME = timedelta(hours=25)
"""A day and an hour, so that a client whose clock differs still finds its key for a whole day."""

STORE_PAUSE_SECONDS = 0.02
"""How long answers wait to be stored, so that more share a statement."""

MAX_KEY = 255
REPLAYED_HEADER = "Idempotent-Replayed"

_NAMESPACE = UUID("0b8b4d2e-3c55-5f0f-9f7d-6a51de3c0002")
_FIELD = "answer"

Command = Callable[[IdempotencyKey | None], Awaitable[CommandResult[T]]]
Recall = Callable[[IdempotencyRecord], Awaitable[T]]
Reply = Callable[[CommandResult[T]], Awaitable[Response]]


def recorded_id(name: str) -> Recall[UUID]:
    """A recall that reads the id which the command recorded under this name."""

    async def recall(done: IdempotencyRecord) -> UUID:
        return UUID(done.result_ids[name])

    return recall


async def no_result(_: IdempotencyRecord) -> None:
    """The recall of a command that returns nothing."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Answer(NamedTuple):
    """An answer to be stored: the log's key, whose it is, and a StoredAnswer as msgpack."""

    key: UUID
    person_id: UUID
    content: bytes


class StoredAnswers:
    """Finds and stores the answers to requests with a key."""

    def __init__(self, log: PostgresLog, clock: Clock, secret: bytes) -> None:
        self._log = log
        self._clock = clock
        self._secret = secret
        self._running: set[UUID] = set()
        self._storing = Gatherer(self._store, pause=STORE_PAUSE_SECONDS)

    def key_for(self, scope: str, key: str, request: bytes) -> IdempotencyKey:
        """The log's key for this request. The fingerprint is keyed, as a request may contain a
        password."""
        fingerprint = hmac.new(self._secret, request, hashlib.sha256).digest()
        return IdempotencyKey(
            uuid5(_NAMESPACE, f"{scope}\x1f{key}"),
            fingerprint,
            expires_at=self._clock.now() + LIFETIME,
        )

    @contextmanager
    def running(self, key: UUID) -> Iterator[None]:
        """Mark the key as in use by this process. Raises Problem 409 if another request under it is
        running here."""
        if key in self._running:
            raise Problem(
                409,
                "idempotency_in_progress",
                "the first request under this key is still running",
                headers={"Retry-After": "1"},
            )
        self._running.add(key)
        try:
            yield
        finally:
            self._running.discard(key)

    async def done(self, once: IdempotencyKey) -> IdempotencyRecord | None:
        """The record under the key, if any. Raises Problem 422 if it belongs to another request."""
        done = await self._log.done(once.key)
        return None if done is None else check_same_request(once, done)

    async def keep(self, once: IdempotencyKey, person_id: UUID, answer: StoredAnswer) -> None:
        """Store an answer for this person only. Nothing is stored for a person without a key
        (forgotten), or when the database is away."""
        content = msgspec.msgpack.encode(answer)
        try:
            await self._storing.get([_Answer(once.key, person_id, content)])
        except (psycopg.Error, LogUnavailable) as error:  # a replay builds it anew
            logger.warning("an answer under an idempotency key was not stored: %s", error)

    async def _store(self, answers: list[_Answer]) -> dict[_Answer, None]:
        keys = await self._log.keys.get({answer.person_id for answer in answers})
        await self._log.answer_many(
            {
                answer.key: encrypt(answer.content, key, answer.key, _FIELD).encode()
                for answer in reversed(answers)  # of several under one key, the first one stays
                if (key := keys.get(answer.person_id)) is not None
            }
        )
        return {}

    async def recall(self, done: IdempotencyRecord, person_id: UUID) -> Response | None:
        """The stored answer, if there is one that can still be decrypted."""
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
    """The record, if it belongs to the same request. Raises Problem 422
    `idempotency_key_reused`."""
    if not hmac.compare_digest(bytes(done.fingerprint), once.fingerprint):
        raise Problem(422, "idempotency_key_reused", "this key was used for another request")
    return done


class Idempotent:
    """A request and its idempotency key, if it has one."""

    def __init__(self, answers: StoredAnswers, caller: Caller, once: IdempotencyKey | None) -> None:
        self._answers = answers
        self._caller = caller
        self._once = once

    @property
    def undisclosed(self) -> IdempotencyKey | None:
        """A key for commands whose answer must not disclose whether they did anything. It differs
        for every request under the same Idempotency-Key, so that not even a reused key is
        reported."""
        once = self._once
        return once and msgspec.structs.replace(once, key=uuid5(once.key, once.fingerprint.hex()))

    async def answer(
        self,
        command: Command[T],
        recall: Recall[T],
        reply: Reply[T],
        *,
        keep: bool = True,
        one_append: bool = False,
    ) -> Response:
        """Run the command and reply; or, if the key is known, give the first reply again.

        `recall` finds the command's result in its record (see `recorded_id`). `keep` is False for
        answers that contain secrets. A command whose first effect is an append under the key (and
        that either appends or refuses) is `one_append`: it is run without asking whether the key
        is known, as the append, or the refusal, finds out.
        """
        once, answers = self._once, self._answers
        if once is None:
            return await reply(await command(None))
        with answers.running(once.key):
            done = None if one_append else await answers.done(once)
            if done is None:
                try:
                    result = await command(once)
                except AlreadyDone as already:
                    done = check_same_request(once, already.done)
                except Refused:  # perhaps because another process has just run this command
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
            told = StoredAnswer(response.status_code, dict(response.headers), bytes(response.body))
            person = self._caller.user_id
            response.background = BackgroundTask(self._answers.keep, once, person, told)
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
            description="Repeats of this request within a day get the same answer.",
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
    """The request in canonical form: the operation (the URL will not do, as aliases share it), the
    path parameters and the body."""
    operation = request.scope["endpoint"].__name__
    body = await request.body()
    try:
        return _canonical([operation, request.path_params, json.loads(body) if body else None])
    except (ValueError, RecursionError):
        # not JSON, or nested too deeply: refused later, but fingerprinted all the same
        return _canonical([operation, request.path_params, body.hex()])


def _canonical(asked: list[object]) -> bytes:
    return json.dumps(asked, sort_keys=True, default=str).encode()


Idempotency = Annotated[Idempotent, Depends(_idempotent)]
