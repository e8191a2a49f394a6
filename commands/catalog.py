"""Commands on games: list, edit, publish, retire."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from commands.accounts.open_accounts import must_be_open
from commands.aggregates import CLAIM, GAME
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.reactors.reactor import Reactor, caused, once_for
from domain import catalog, claims
from domain.catalog import (
    Game,
    GameCreated,
    GamePublished,
    GameUpdated,
    InitialStatus,
    Listing,
    sku_key,
)
from domain.claims import ReleaseReason
from domain.errors import Conflict, Forbidden, Invalid
from domain.ids import PLATFORM_ID, claim_id
from eventstore.log import Envelope, IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


class CatalogCommands:
    """Commands on games. A SELLER lists their own games; those that an ADMIN lists are the
    platform's."""

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def create(
        self,
        caller: Caller,
        listing: Listing,
        status: InitialStatus = "DRAFT",
        *,
        once: IdempotencyKey | None = None,
        game_id: UUID | None = None,
    ) -> CommandResult[UUID]:
        """List a game. Returns its id. Raises Conflict("sku_taken"), Forbidden, Invalid."""
        seller_id, game_id = seller_of(caller), game_id or uuid7()
        events = catalog.create(seller_id, listing, status)

        async def decision(unit: UnitOfWork) -> UUID:
            if seller_id != PLATFORM_ID:
                await must_be_open(unit, seller_id)
            unit.create(GAME, game_id, events)
            await _claim_sku(unit, seller_id, listing.sku, game_id)
            unit.record_ids(game_id=game_id)
            return game_id

        return await self._handler.handle(decision, caller, once)

    async def update(
        self,
        caller: Caller,
        game_id: UUID,
        changes: Mapping[str, object],
        *,
        status: InitialStatus | None = None,
        expected_version: int | None = None,
    ) -> CommandResult[int]:
        """Edit the fields of Listing that are in `changes`. Returns the new version.

        Raises NotFound, Forbidden("not_owner"), Stale, Conflict("sku_taken" | "game_retired"),
        Invalid.
        """

        async def decision(unit: UnitOfWork) -> int:
            game = await unit.get(GAME, game_id)
            unit.expect(game_id, expected_version)
            try:
                wanted = msgspec.convert(
                    {**msgspec.structs.asdict(game.listing), **changes}, Listing
                )
            except msgspec.ValidationError as error:
                raise Invalid("invalid_listing", str(error)) from error
            events = catalog.update(
                game, wanted, by=seller_of(caller), is_admin=caller.is_admin, status=status
            )
            if sku_key(wanted.sku) != sku_key(game.listing.sku):
                await _claim_sku(unit, game.seller_id, wanted.sku, game_id)
                await _release_sku(unit, game, game_id, "SKU changed")
            if (
                any(isinstance(event, GamePublished) for event in events)
                and game.seller_id != PLATFORM_ID
            ):
                await must_be_open(unit, game.seller_id)
            unit.emit(game_id, events)
            return unit.version_after(game_id)

        return await self._handler.handle(decision, caller)

    async def retire(
        self, caller: Caller, game_id: UUID, *, expected_version: int | None = None
    ) -> CommandResult[None]:
        """Take a game off sale for good, and free its SKU. Raises NotFound, Forbidden("not_owner"),
        Stale."""

        async def decision(unit: UnitOfWork) -> None:
            game = await unit.get(GAME, game_id)
            unit.expect(game_id, expected_version)
            unit.emit(game_id, catalog.retire(game, by=seller_of(caller), is_admin=caller.is_admin))
            await _release_sku(unit, game, game_id, "retired")

        return await self._handler.handle(decision, caller)


def seller_of(caller: Caller) -> UUID:
    """The seller as whom the caller sells: the platform for an ADMIN. Raises
    Forbidden("not_a_seller")."""
    if caller.is_admin or caller.actor == "system":
        return PLATFORM_ID
    if caller.account_type != "SELLER" or caller.user_id is None:
        raise Forbidden("not_a_seller", "this requires the role SELLER or ADMIN")
    return caller.user_id


def sku_claims(handler: CommandHandler) -> Reactor:
    """Claims the key of the SKUs of old games, for the game that had it first: they were listed
    when the claim was on the SKU as typed (`ABC-1` and `abc-1` were two). Newer games have claimed
    their key themselves."""
    name = "sku_claims"

    async def listed(event: GameCreated | GameUpdated, env: Envelope) -> None:
        if event.sku is None or sku_key(event.sku) == event.sku:
            return

        async def decision(unit: UnitOfWork) -> None:
            game = await unit.load(GAME, env.stream_id)
            if game is None or game.status == "RETIRED" or game.listing.sku != event.sku:
                return
            claim_stream = claim_id("sku", game.seller_id, sku_key(event.sku))
            claim = await unit.load(CLAIM, claim_stream)
            if claim is None or not claim.held:
                unit.emit(claim_stream, claims.take(claim, "sku", env.stream_id, _sku_taken()))

        await handler.handle(decision, caused(name, env), once_for(name, env))

    return Reactor(name, {GameCreated: listed, GameUpdated: listed}, writes=(CLAIM,))


async def _claim_sku(unit: UnitOfWork, seller_id: UUID, sku: str, game_id: UUID) -> None:
    """Claim a SKU. Raises Conflict("sku_taken"), also for an old claim on this spelling."""
    as_typed, by_key = _sku_claim_ids(seller_id, sku)
    typed = await unit.load(CLAIM, as_typed)
    if typed is not None and typed.held and typed.holder_id != game_id:
        raise _sku_taken()
    claim = await unit.load(CLAIM, by_key)
    unit.emit(by_key, claims.take(claim, "sku", game_id, _sku_taken()))


async def _release_sku(unit: UnitOfWork, game: Game, game_id: UUID, reason: ReleaseReason) -> None:
    for claim in dict.fromkeys(_sku_claim_ids(game.seller_id, game.listing.sku)):
        unit.emit(claim, claims.release(await unit.load(CLAIM, claim), game_id, reason))


def _sku_taken() -> Conflict:
    return Conflict("sku_taken", "you already have a game with this SKU")


def _sku_claim_ids(seller_id: UUID, sku: str) -> tuple[UUID, UUID]:
    """The ids of the old claim, on the SKU as typed, and of the current one, on its key."""
    return claim_id("sku", seller_id, sku), claim_id("sku", seller_id, sku_key(sku))
