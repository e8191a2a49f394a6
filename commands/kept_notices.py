"""Keeps signed notices as they were received, in the append that records what they changed."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from commands.aggregates import NOTICE
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from domain import notices
from domain.ids import notice_id
from domain.notices import About, SignedBody
from eventstore.codec import MissingKey
from eventstore.unit_of_work import UnitOfWork

T = TypeVar("T")


async def handle_notice(
    handler: CommandHandler,
    decision: Callable[[UnitOfWork, bool], Awaitable[T]],
    caller: Caller,
) -> CommandResult[T]:
    """Handle a decision that keeps a notice. It is told whether the notice's person was forgotten:
    what a notice says of them cannot be encrypted then, and what it changes counts all the same."""
    try:
        return await handler.handle(lambda unit: decision(unit, False), caller)
    except MissingKey:
        return await handler.handle(lambda unit: decision(unit, True), caller)


async def keep_notice(
    unit: UnitOfWork,
    came: SignedBody,
    *,
    user_id: UUID,
    sender: str,
    about: About,
    about_id: UUID,
    provider_event_id: str | None = None,
    forgotten: bool,
) -> None:
    """Keep a notice about a payment or a shipment of this person."""
    stream_id = notice_id(about_id, provider_event_id)
    # not read: what was noticed before is known from the payment or the shipment
    state = await unit.load(NOTICE, stream_id, likely_new=True)
    kept = notices.keep(
        state,
        came,
        user_id=user_id,
        sender=sender,
        about=about,
        about_id=about_id,
        provider_event_id=provider_event_id,
        forgotten=forgotten,
    )
    unit.emit(stream_id, kept)
