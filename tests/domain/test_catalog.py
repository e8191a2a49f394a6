from datetime import date

import msgspec
import pytest
from spec import an_id, fold, given, when

from domain import catalog
from domain.catalog import (
    GameCreated,
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
    InitialStatus,
    Listing,
    Price,
    evolve,
)
from domain.errors import Conflict, Forbidden, Invalid

SELLER, STRANGER = an_id("seller"), an_id("stranger")
WORLD, BRAZIL = Price("*", 5999, "USD"), Price("BR", 19990, "BRL")
LISTING = Listing(
    sku="S-1",
    title="Chess",
    kind="DIGITAL",
    description="A board, two players.",
    genres=("Strategy",),
    release_date=date(2026, 1, 2),
    prices=(WORLD, BRAZIL),
)


def with_(**changes: object) -> Listing:
    return msgspec.structs.replace(LISTING, **changes)


def created(status: InitialStatus = "ACTIVE") -> GameCreated:
    return GameCreated(
        seller_id=SELLER,
        sku="S-1",
        title="Chess",
        description="A board, two players.",
        publisher="",
        category="",
        genres=("Strategy",),
        tags=(),
        platforms=(),
        kind="DIGITAL",
        prices=(WORLD, BRAZIL),
        image_ids=(),
        status=status,
        release_date=date(2026, 1, 2),
    )


def test_a_seller_lists_a_game_as_a_draft() -> None:
    when(lambda: catalog.create(SELLER, LISTING)).then(created("DRAFT"))


def test_a_game_created_active_is_on_sale_by_that_alone() -> None:
    when(lambda: catalog.create(SELLER, LISTING, "ACTIVE")).then(created("ACTIVE"))
    assert fold(evolve, created("ACTIVE")) == catalog.Game(SELLER, LISTING, "ACTIVE")


@pytest.mark.parametrize(
    ("listing", "code"),
    [
        (with_(title=" "), "invalid_title"),
        (with_(title="x" * 301), "invalid_title"),
        (with_(sku=""), "invalid_sku"),
        (with_(sku="x" * 65), "invalid_sku"),
        (with_(kind="BORROWED"), "invalid_kind"),
        (with_(prices=(Price("*", -1, "USD"),)), "invalid_amount"),
        (with_(prices=(Price("*", 10_000_001, "USD"),)), "invalid_amount"),
        (with_(prices=(Price("*", 1, "usd"),)), "invalid_currency"),
        (with_(prices=(Price("Brazil", 1, "BRL"),)), "invalid_region"),
        (with_(prices=(WORLD, WORLD)), "duplicate_price"),
    ],
)
def test_a_listing_that_cannot_be_is_refused(listing: Listing, code: str) -> None:
    when(lambda: catalog.create(SELLER, listing)).then_refused(Invalid, code)
    if code != "invalid_kind":
        given(evolve, created()).when(lambda g: catalog.update(g, listing, by=SELLER)).then_refused(Invalid, code)


def test_a_new_game_is_not_born_retired() -> None:
    when(lambda: catalog.create(SELLER, LISTING, "RETIRED")).then_refused(Invalid, "invalid_status")  # type: ignore[arg-type]


def test_the_longest_title_and_sku_and_the_highest_price_are_accepted() -> None:
    extreme = with_(title="x" * 300, sku="x" * 64, prices=(Price("*", 10_000_000, "USD"), Price("US", 0, "USD")))
    catalog.create(SELLER, extreme)


def test_an_update_says_only_what_changed() -> None:
    given(evolve, created()).when(
        lambda g: catalog.update(g, with_(title="Chess 2", tags=("board",), genres=()), by=SELLER)
    ).then(GameUpdated(title="Chess 2", tags=("board",), genres=()))


def test_an_update_is_folded_into_the_listing() -> None:
    game = fold(evolve, created(), GameUpdated(title="Chess 2", genres=()))
    assert game.listing == with_(title="Chess 2", genres=())


def test_an_update_to_the_same_changes_nothing() -> None:
    given(evolve, created()).when(
        lambda g: catalog.update(g, with_(release_date=None), by=SELLER, status="ACTIVE")
    ).then_nothing()


def test_an_update_can_publish_a_draft() -> None:
    given(evolve, created("DRAFT")).when(
        lambda g: catalog.update(g, with_(title="Go"), by=SELLER, status="ACTIVE")
    ).then(GameUpdated(title="Go"), GamePublished())
    assert fold(evolve, created("DRAFT"), GamePublished()).status == "ACTIVE"


def test_a_published_game_never_becomes_a_draft_again() -> None:
    given(evolve, created()).when(lambda g: catalog.update(g, LISTING, by=SELLER, status="DRAFT")).then_refused(
        Conflict, "game_published"
    )


def test_the_kind_of_a_game_is_fixed() -> None:
    given(evolve, created()).when(lambda g: catalog.update(g, with_(kind="PHYSICAL"), by=SELLER)).then_refused(
        Invalid, "kind_fixed"
    )


def test_only_the_seller_or_an_admin_edits_and_retires() -> None:
    game = given(evolve, created())
    game.when(lambda g: catalog.update(g, with_(title="Mine"), by=STRANGER)).then_refused(Forbidden, "not_owner")
    game.when(lambda g: catalog.retire(g, by=STRANGER)).then_refused(Forbidden, "not_owner")
    game.when(lambda g: catalog.update(g, with_(title="Go"), by=STRANGER, is_admin=True)).then(GameUpdated(title="Go"))
    game.when(lambda g: catalog.retire(g, by=STRANGER, is_admin=True)).then(GameRetired())


def test_a_retired_game_cannot_be_edited_and_stays_retired() -> None:
    retired = given(evolve, created(), GameRetired())
    retired.when(lambda g: catalog.update(g, with_(title="Go"), by=SELLER)).then_refused(Conflict, "game_retired")
    retired.when(lambda g: catalog.retire(g, by=SELLER)).then_nothing()


def test_a_region_has_its_own_price_or_the_fallback() -> None:
    game = fold(evolve, created())
    assert catalog.price_for(game, "BR") == BRAZIL
    assert catalog.price_for(game, "DE") == WORLD
    assert catalog.price_for(fold(evolve, created(), GameUpdated(prices=(BRAZIL,))), "DE") is None


def test_a_price_of_nothing_is_a_price() -> None:
    free = Price("BR", 0, "BRL")
    assert catalog.price_for(fold(evolve, created(), GameUpdated(prices=(WORLD, free))), "BR") == free


def test_an_active_game_with_a_price_is_on_offer() -> None:
    assert catalog.offer(fold(evolve, created()), "BR") == BRAZIL


@pytest.mark.parametrize(
    "game",
    [
        fold(evolve, created("DRAFT")),
        fold(evolve, created(), GameRetired()),
        fold(evolve, created(), GameUpdated(prices=(BRAZIL,))),
    ],
    ids=["a draft", "retired", "not sold in the region"],
)
def test_other_games_are_not_on_offer(game: catalog.Game) -> None:
    with pytest.raises(Conflict, match="game_unavailable"):
        catalog.offer(game, "DE")


def test_a_game_goes_off_sale_with_its_sellers_account_and_comes_back_with_it() -> None:
    on_sale = given(evolve, created("ACTIVE"))
    on_sale.when(lambda g: catalog.follow_seller(g, seller_is_open=False)).then(GameSuspended())
    on_sale.when(lambda g: catalog.follow_seller(g, seller_is_open=True)).then_nothing()
    suspended = given(evolve, created("ACTIVE"), GameSuspended())
    suspended.when(lambda g: catalog.follow_seller(g, seller_is_open=False)).then_nothing()
    suspended.when(lambda g: catalog.follow_seller(g, seller_is_open=True)).then(GameResumed())
    assert fold(evolve, created("ACTIVE"), GameSuspended(), GameResumed()).status == "ACTIVE"


@pytest.mark.parametrize("last", [(), (GameRetired(),)])
def test_what_was_not_on_sale_does_not_follow_its_seller(last: tuple[GameRetired, ...]) -> None:
    story = given(evolve, created("DRAFT"), *last)
    story.when(lambda g: catalog.follow_seller(g, seller_is_open=True)).then_nothing()
    story.when(lambda g: catalog.follow_seller(g, seller_is_open=False)).then_nothing()


def test_a_suspended_game_is_not_sold() -> None:
    given(evolve, created("ACTIVE"), GameSuspended()).when(lambda g: [catalog.offer(g, "US")]).then_refused(
        Conflict, "game_unavailable"
    )
