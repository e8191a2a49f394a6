"""Selling games: listing, editing and retiring them."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from api.answers import ExpectedVersion, answer, position_of
from api.auth import Merchant, SellerOfGame
from api.fields import Body, Cents, Day, Prose, SingleLine, Word
from api.idempotency import Idempotency, recorded_id
from api.services import Services, ServicesOf
from api.views.game_offers import show_stock
from api.views.games import GameView, offer_of
from api.views.region import CallerRegion
from commands.aggregates import GAME
from commands.handler import CommandResult
from domain.catalog import InitialStatus, Kind, Listing
from domain.regions import ANY_REGION

router = APIRouter(prefix="/api/v1", tags=["catalog"])

Words = Annotated[tuple[Word, ...], Field(max_length=50)]


# -- request bodies --------------------------------------------------------------------------------


class PriceFields(Body):
    """The game's price in a region (two capital letters), or in all regions without a price of
    their own (`*`)."""

    region: Word = ANY_REGION
    amount_cents: Cents
    currency: Word


class NewGame(Body):
    """A game to list."""

    sku: Word
    title: SingleLine
    description: Prose = ""
    publisher: SingleLine = ""
    category: SingleLine = ""
    genres: Words = ()
    tags: Words = ()
    platforms: Words = ()
    release_date: Day | None = None
    kind: Kind = "DIGITAL"
    prices: Annotated[tuple[PriceFields, ...], Field(max_length=300)] = ()
    image_ids: Annotated[tuple[UUID, ...], Field(max_length=50)] = ()
    status: InitialStatus = "DRAFT"

    def listing(self) -> Listing:
        """The listing, without its status."""
        return msgspec.convert(self.model_dump(exclude={"status"}), Listing)


class GameChanges(Body):
    """The changes to a game. Absent and null fields stay as they are. `status` can only change from
    DRAFT to ACTIVE."""

    sku: Word | None = None
    title: SingleLine | None = None
    description: Prose | None = None
    publisher: SingleLine | None = None
    category: SingleLine | None = None
    genres: Words | None = None
    tags: Words | None = None
    platforms: Words | None = None
    release_date: Day | None = None
    kind: Kind | None = None
    prices: Annotated[tuple[PriceFields, ...] | None, Field(max_length=300)] = None
    image_ids: Annotated[tuple[UUID, ...] | None, Field(max_length=50)] = None
    status: InitialStatus | None = None


# -- commands --------------------------------------------------------------------------------------


@router.post("/games", status_code=201, response_model=GameView)
async def create_game(
    body: NewGame,
    services: ServicesOf,
    caller: Merchant,
    region: CallerRegion,
    idempotency: Idempotency,
) -> Response:
    """List a game. Requires SELLER or ADMIN. Errors: 409 `sku_taken`; 422 `image_not_found`."""
    await services.commands.images.check(caller, body.image_ids)

    async def reply(result: CommandResult[UUID]) -> Response:
        headers = {"Location": f"/api/v1/games/{result.value}"}
        return await _game_now(services, result, result.value, region, status=201, headers=headers)

    return await idempotency.answer(
        lambda once: services.commands.catalog.create(
            caller, body.listing(), body.status, once=once
        ),
        recorded_id("game_id"),
        reply,
    )


@router.put("/games/{game_id}", response_model=GameView)
async def update_game(
    game_id: UUID,
    body: GameChanges,
    services: ServicesOf,
    caller: SellerOfGame,
    region: CallerRegion,
    expected_version: ExpectedVersion,
) -> Response:
    """Edit or publish a game (its seller, ADMIN). Errors: 412 if `If-Match` is stale."""
    await services.commands.images.check(caller, body.image_ids or ())
    changes = {
        name: value
        for name, value in body.model_dump(exclude={"status"}).items()
        if value is not None
    }
    result = await services.commands.catalog.update(
        caller, game_id, changes, status=body.status, expected_version=expected_version
    )
    return await _game_now(services, result, game_id, region)


@router.delete("/games/{game_id}", status_code=204)
async def retire_game(
    game_id: UUID, services: ServicesOf, caller: SellerOfGame, expected_version: ExpectedVersion
) -> Response:
    """Take a game off sale for good (its seller, ADMIN)."""
    result = await services.commands.catalog.retire(
        caller, game_id, expected_version=expected_version
    )
    return answer(None, status=204, position=await position_of(result, services))


async def _game_now(
    services: Services, result: CommandResult[Any], game_id: UUID, region: str, **options: Any
) -> Response:
    """The game after the command, from the log: the read model may not have reached it yet."""
    version, game = await services.repository.get_versioned(GAME, game_id)
    body = GameView.model_validate(
        {
            "game_id": game_id,
            "seller_id": game.seller_id,
            "status": game.status,
            "version": version,
            **msgspec.structs.asdict(game.listing),
        }
    )
    offer_of(body, body.prices, body.image_ids, region)
    await show_stock(services, services.reads, [body], 0)
    return answer(body, position=await position_of(result, services), version=version, **options)
