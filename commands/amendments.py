"""Declaring how an event that no fold can apply is to be read: see `domain.amendments`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from commands.aggregates import AMENDMENTS
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from domain import amendments
from domain.amendments import AmendmentDeclared, Reading
from domain.errors import Conflict, Invalid, NotFound
from eventstore.amendments import STREAM
from eventstore.codec import MissingKey
from eventstore.decoding import Raw
from eventstore.log import IdempotencyKey
from eventstore.postgres_log import PostgresLog
from eventstore.unit_of_work import UnitOfWork

_NO_PAYLOAD = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,  # a number of too many digits
    RecursionError,
)
"""What encoding and decoding raise for a payload that is none of an event's type."""


class AmendmentCommands:
    """`log` has the events that are amended."""

    def __init__(self, handler: CommandHandler, log: PostgresLog) -> None:
        self._handler = handler
        self._log = log

    async def skip(
        self, caller: Caller, position: int, reason: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Have an event skipped by all who fold (ADMIN).

        Raises NotFound("event_not_found"), Conflict("not_amendable"), Invalid("reason_required").
        """
        return await self._declare(caller, await self._event(position), "skip", reason, None, once)

    async def amend(
        self,
        caller: Caller,
        position: int,
        payload: Mapping[str, Any],
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[None]:
        """Have an event read with this payload (ADMIN). A personal field that is given as ENCRYPTED
        (kit) stays as it is.

        Raises as `skip`, and Invalid("invalid_payload") for one that is none of this event's type.
        """
        raw = await self._event(position)
        text = await self._sealed(raw, payload)
        return await self._declare(caller, raw, "amend", reason, text, once)

    async def withdraw(
        self, caller: Caller, position: int, reason: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Have an event read as it was recorded again (ADMIN). Raises as `skip`, and
        Conflict("not_amended")."""
        raw = await self._event(position)
        return await self._declare(caller, raw, amendments.AS_RECORDED, reason, None, once)

    async def _event(self, position: int) -> Raw:
        found = await self._log.read_raw(position - 1, upto=position) if position > 0 else []
        if not found:
            raise NotFound("event_not_found", f"the log has no event at position {position}")
        env = found[0][0]
        if not self._log.codec.knows(env.name) or env.stream_id == STREAM:
            raise Conflict("not_amendable", f"{env.name} cannot be amended")
        return found[0]

    async def _sealed(self, raw: Raw, payload: Mapping[str, Any]) -> str:
        """The payload as it is stored: valid, and with its personal fields encrypted."""
        codec, (env, stored) = self._log.codec, raw
        try:
            person = codec.person_given(env.name, payload, env.stream_id)
            keys = {} if person is None else await self._log.keys.get([person])
            key = None if person is None else keys.get(person)
            sealed = codec.sealed(env.name, payload, stored, env.stream_id, key)
            codec.decode(env.name, sealed, env.stream_id, keys.get)
        except MissingKey as error:
            raise Invalid("invalid_payload", str(error)) from error
        except _NO_PAYLOAD as error:
            detail = f"this is no payload of {env.name}: {error}"
            raise Invalid("invalid_payload", detail) from error
        return sealed.decode()

    async def _declare(
        self,
        caller: Caller,
        raw: Raw,
        reading: Reading,
        reason: str,
        payload: str | None,
        once: IdempotencyKey | None,
    ) -> CommandResult[None]:
        env = raw[0]
        declared = AmendmentDeclared(
            env.position, env.event_id, env.stream_id, env.name, reading, reason, payload
        )

        async def decision(unit: UnitOfWork) -> None:
            state = await unit.load(AMENDMENTS, STREAM)
            unit.emit(STREAM, amendments.declare(state, declared))

        result = await self._handler.handle(decision, caller, once)
        await self._log.amendments.look()
        return result
