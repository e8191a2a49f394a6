"""What may change about games: list, edit, publish, retire."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from commands.aggregates import CLAIM, GAME
from commands.bus import Caller, CommandBus, Landed
from commands.open_accounts import must_be_open
from domain import catalog, claims
from domain.catalog import Game, GamePublished, InitialStatus, Listing
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.ids import PLATFORM_ID, claim_id
from eventstore.log import Once
from eventstore.repository import Unit
from eventstore.uuid7 import uuid7


class Catalog:
    """Commands on games. A SELLER lists their own; what an ADMIN lists is the platform's."""

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus

    async def create(
        self,
        caller: Caller,
        listing: Listing,
        status: InitialStatus = "DRAFT",
        *,
        once: Once | None = None,
        game_id: UUID | None = None,
    ) -> Landed[UUID]:
        """List a game; returns its id. Raises Conflict("sku_taken"), Forbidden, Invalid."""
        seller_id, game_id = seller_of(caller), game_id or uuid7()
        events = catalog.create(seller_id, listing, status)

        async def decision(unit: Unit) -> UUID:
            if seller_id != PLATFORM_ID:
                await must_be_open(unit, seller_id)
            unit.create(GAME, game_id, events)
            await self._claim_sku(unit, seller_id, listing.sku, game_id)
            unit.refer(game_id=game_id)
            return game_id

        return await self._bus.run(decision, caller, once)

    async def update(
        self,
        caller: Caller,
        game_id: UUID,
        changes: Mapping[str, object],
        *,
        status: InitialStatus | None = None,
        expected_version: int | None = None,
    ) -> Landed[int]:
        """Edit what is named in `changes` (fields of Listing); returns the new version.

        Raises NotFound, Forbidden("not_owner"), Stale, Conflict("sku_taken" | "game_retired"), Invalid.
        """

        async def decision(unit: Unit) -> int:
            game = await _at_version(unit, game_id, expected_version)
            try:
                wanted = msgspec.convert({**msgspec.structs.asdict(game.listing), **changes}, Listing)
            except msgspec.ValidationError as error:
                raise Invalid("invalid_listing", str(error)) from error
            events = catalog.update(game, wanted, by=seller_of(caller), is_admin=caller.is_admin, status=status)
            if wanted.sku != game.listing.sku:
                await self._claim_sku(unit, game.seller_id, wanted.sku, game_id)
                await _release_sku(unit, game, game_id, "SKU changed")
            if any(isinstance(event, GamePublished) for event in events) and game.seller_id != PLATFORM_ID:
                await must_be_open(unit, game.seller_id)
            unit.emit(game_id, events)
            return unit.version_after(game_id)

        return await self._bus.run(decision, caller)

    async def retire(self, caller: Caller, game_id: UUID, *, expected_version: int | None = None) -> Landed[None]:
        """Take a game off sale for good; its SKU may be used again. Raises NotFound, Forbidden("not_owner"), Stale."""

        async def decision(unit: Unit) -> None:
            game = await _at_version(unit, game_id, expected_version)
            unit.emit(game_id, catalog.retire(game, by=seller_of(caller), is_admin=caller.is_admin))
            await _release_sku(unit, game, game_id, "retired")

        return await self._bus.run(decision, caller)

    async def _claim_sku(self, unit: Unit, seller_id: UUID, sku: str, game_id: UUID) -> None:
        claim, taken = claim_id("sku", seller_id, sku), Conflict("sku_taken", "you have a game with this SKU already")
        unit.emit(claim, claims.take(await unit.load(CLAIM, claim), "sku", game_id, taken))


def seller_of(caller: Caller) -> UUID:
    """On whose behalf this caller sells. Raises Forbidden("not_a_seller")."""
    if caller.is_admin or caller.actor == "system":
        return PLATFORM_ID
    if caller.account_type != "SELLER" or caller.user_id is None:
        raise Forbidden("not_a_seller", "this is for SELLERs and ADMINs")
    return caller.user_id


async def _release_sku(unit: Unit, game: Game, game_id: UUID, reason: str) -> None:
    claim = claim_id("sku", game.seller_id, game.listing.sku)
    unit.emit(claim, claims.release(await unit.load(CLAIM, claim), game_id, reason))


async def _at_version(unit: Unit, game_id: UUID, expected: int | None) -> Game:
    game = await unit.load(GAME, game_id)
    if game is None:
        raise NotFound("game_not_found", "there is no such game")
    if expected is not None and unit.version(game_id) != expected:
        raise Stale("version_mismatch", "the game was changed meanwhile", version=unit.version(game_id))
    return game
