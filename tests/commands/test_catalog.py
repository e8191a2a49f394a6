"""Commands on games."""

from unittest.mock import ANY

import pytest

from domain import catalog
from domain.catalog import GamePublished, GameRetired, GameUpdated, InitialStatus, Listing, Price
from domain.claims import ClaimReleased, ClaimTaken
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.identity import UserDeactivated
from domain.ids import PLATFORM_ID
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, Shop, caller
from tests.support.given_when_then import an_id
from tests.support.past import ANA, BEN_ID, GAME, SELLER, SELLER_ID, account, game

CHESS = Listing(sku="CHESS-1", title="Chess", kind="DIGITAL", prices=(Price("*", 1999, "EUR"),))
CLAIMED = ClaimTaken(kind="sku", holder_id=ANY)
OTHER_SELLER = caller(BEN_ID, "SELLER")


@pytest.mark.parametrize("status", ["DRAFT", "ACTIVE"])
async def test_a_seller_lists_a_game_and_has_its_sku(shop: Shop, status: InitialStatus) -> None:
    listing = shop.given(account(SELLER_ID, "SELLER")).when(
        shop.catalog.create(SELLER, CHESS, status)
    )
    await listing.then(*catalog.create(SELLER_ID, CHESS, status), CLAIMED)


async def test_what_an_admin_lists_is_the_platforms(shop: Shop) -> None:
    await shop.when(shop.catalog.create(ADMIN, CHESS)).then(
        *catalog.create(PLATFORM_ID, CHESS), CLAIMED
    )


async def test_a_buyer_lists_nothing(shop: Shop) -> None:
    with pytest.raises(Forbidden, match="not_a_seller"):
        await shop.catalog.create(ANA, CHESS)


async def test_a_seller_whose_account_is_closed_lists_nothing(shop: Shop) -> None:
    closed = shop.given(account(SELLER_ID, "SELLER"), {SELLER_ID: [UserDeactivated()]})
    await closed.when(shop.catalog.create(SELLER, CHESS)).then_refused(Forbidden, "user_inactive")


async def test_a_sku_is_the_sellers_once_however_it_is_typed(shop: Shop) -> None:
    await shop.append(account(SELLER_ID, "SELLER"))
    await shop.append(account(BEN_ID, "SELLER"))
    await shop.catalog.create(SELLER, CHESS)
    typed = Listing(sku="chess-1", title="Chess", kind="DIGITAL")
    await shop.when(shop.catalog.create(SELLER, typed)).then_refused(Conflict, "sku_taken")
    await shop.when(shop.catalog.create(OTHER_SELLER, typed)).then(
        *catalog.create(BEN_ID, typed), CLAIMED
    )


async def test_under_a_key_a_game_is_listed_once(shop: Shop) -> None:
    once = IdempotencyKey(an_id("key"))
    made = await shop.catalog.create(ADMIN, CHESS, once=once)
    done = await shop.when(shop.catalog.create(ADMIN, CHESS, once=once)).then_known()
    assert done.result_ids == {"game_id": str(made.value)}


async def test_its_seller_edits_what_is_named_and_learns_the_version(shop: Shop) -> None:
    editing = shop.given(account(SELLER_ID, "SELLER"), game()).when(
        shop.catalog.update(SELLER, GAME, {"title": "Go"}, expected_version=1)
    )
    assert (await editing.then(GameUpdated(title="Go"))).value == 2


async def test_who_saw_another_version_does_not_edit(shop: Shop) -> None:
    stale = shop.given(game()).when(
        shop.catalog.update(SELLER, GAME, {"title": "Go"}, expected_version=2)
    )
    await stale.then_refused(Stale, "version_mismatch", version=1)
    await shop.when(shop.catalog.retire(SELLER, GAME, expected_version=2)).then_refused(
        Stale, "version_mismatch"
    )


async def test_others_do_not_edit(shop: Shop) -> None:
    others = shop.given(game()).when(shop.catalog.update(OTHER_SELLER, GAME, {"title": "Go"}))
    await others.then_refused(Forbidden, "not_owner")
    await shop.when(shop.catalog.update(ADMIN, GAME, {"title": "Go"})).then(GameUpdated(title="Go"))


async def test_what_is_not_there_or_makes_no_listing_is_refused(shop: Shop) -> None:
    await shop.when(shop.catalog.update(ADMIN, GAME, {})).then_refused(NotFound, "game_not_found")
    wrong = shop.given(game()).when(shop.catalog.update(SELLER, GAME, {"title": 7}))
    await wrong.then_refused(Invalid, "invalid_listing")


async def test_another_sku_is_claimed_and_the_old_one_given_up(shop: Shop) -> None:
    moved = shop.given(game()).when(shop.catalog.update(SELLER, GAME, {"sku": "NEW-1"}))
    await moved.then(GameUpdated(sku="NEW-1"), CLAIMED, ClaimReleased(reason="SKU changed"))


async def test_a_draft_goes_on_sale(shop: Shop) -> None:
    draft = shop.given(account(SELLER_ID, "SELLER"), game(status="DRAFT"))
    await draft.when(shop.catalog.update(SELLER, GAME, {}, status="ACTIVE")).then(GamePublished())
    await shop.when(shop.catalog.update(SELLER, GAME, {}, status="DRAFT")).then_refused(
        Conflict, "game_published"
    )


async def test_a_retired_game_leaves_its_sku_to_another(shop: Shop) -> None:
    there = shop.given(account(SELLER_ID, "SELLER"), game())
    await there.when(shop.catalog.retire(SELLER, GAME)).then(
        GameRetired(), ClaimReleased(reason="retired")
    )
    await shop.when(shop.catalog.retire(SELLER, GAME)).then_nothing()
    await shop.when(shop.catalog.update(SELLER, GAME, {"title": "Go"})).then_refused(
        Conflict, "game_retired"
    )
    again = Listing(sku="SKU-DIGITAL", title="Another", kind="DIGITAL")
    await shop.when(shop.catalog.create(SELLER, again)).then(
        *catalog.create(SELLER_ID, again), CLAIMED
    )
