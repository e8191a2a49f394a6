from datetime import date

import msgspec
import pytest

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
from tests.support.given_when_then import an_id, fold, given, when

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
        (with_(title="\u200b\u3164"), "invalid_title"),
        (with_(title="Chess\u202e"), "invalid_title"),
        (with_(sku="\u200b \u2060"), "invalid_sku"),
        (with_(kind="BORROWED"), "invalid_kind"),
        (with_(description="x" * 20_001), "invalid_description"),
        (with_(publisher="\u2800"), "invalid_publisher"),
        (with_(category="\u200b"), "invalid_category"),
        (with_(genres=("RPG", "")), "invalid_genres"),
        (with_(tags=("x" * 65,)), "invalid_tags"),
        (with_(platforms=("\u200b",)), "invalid_platforms"),
        (with_(platforms=("PC",) * 51), "invalid_platforms"),
        (with_(prices=(Price("UK", 1, "GBP"),)), "invalid_region"),
        (with_(prices=(Price("*", -1, "USD"),)), "invalid_amount"),
        (with_(prices=(Price("*", 100_000_001, "USD"),)), "invalid_amount"),
        (with_(prices=(Price("*", 1, "usd"),)), "invalid_currency"),
        (with_(prices=(Price("Brazil", 1, "BRL"),)), "invalid_region"),
        (with_(prices=(WORLD, WORLD)), "duplicate_price"),
    ],
)
def test_a_listing_that_cannot_be_is_refused(listing: Listing, code: str) -> None:
    when(lambda: catalog.create(SELLER, listing)).then_refused(Invalid, code)
    if code != "invalid_kind":
        given(evolve, created()).when(lambda g: catalog.update(g, listing, by=SELLER)).then_refused(
            Invalid, code
        )


@pytest.mark.parametrize("typed", ["S-1 ", "\u200bS-1", "\u00a0S-1\ufeff"], ids=ascii)
def test_blanks_around_a_sku_are_no_part_of_it(typed: str) -> None:
    when(lambda: catalog.create(SELLER, with_(sku=typed))).then(created("DRAFT"))
    given(evolve, created()).when(
        lambda g: catalog.update(g, with_(sku=typed), by=SELLER)
    ).then_nothing()


def test_a_sku_is_kept_as_it_was_typed_and_compared_by_its_key() -> None:
    assert {
        catalog.sku_key(sku) for sku in ("ABC-1", "abc-1", "ABC-1 ", "ABC-1\u200b", "ＡＢＣ-1")
    } == {"ABC-1"}
    assert catalog.sku_key("ABC-1") != catalog.sku_key("ABC-2")
    when(lambda: catalog.create(SELLER, with_(sku="aBc"))).then(
        msgspec.structs.replace(created("DRAFT"), sku="aBc")
    )


def test_what_was_let_in_by_an_older_rule_stays_while_the_rest_is_edited() -> None:
    old = msgspec.structs.replace(
        created(), title="\u3164", tags=("",), prices=(Price("UK", 1, "GBP"),)
    )
    wanted = msgspec.structs.replace(fold(evolve, old).listing, description="New.")
    given(evolve, old).when(lambda g: catalog.update(g, wanted, by=SELLER)).then(
        GameUpdated(description="New.")
    )


def test_a_game_on_sale_has_a_price() -> None:
    free = with_(prices=())
    when(lambda: catalog.create(SELLER, free, "ACTIVE")).then_refused(Invalid, "price_required")
    given(evolve, created()).when(lambda g: catalog.update(g, free, by=SELLER)).then_refused(
        Invalid, "price_required"
    )
    draft = msgspec.structs.replace(created("DRAFT"), prices=())
    given(evolve, draft).when(
        lambda g: catalog.update(g, free, by=SELLER, status="ACTIVE")
    ).then_refused(Invalid, "price_required")
    given(evolve, draft).when(lambda g: catalog.update(g, free, by=SELLER)).then_nothing()


def test_a_game_on_sale_without_a_price_from_before_can_be_edited() -> None:
    old = msgspec.structs.replace(created(), prices=())
    wanted = with_(prices=(), title="Chess 2")
    given(evolve, old).when(lambda g: catalog.update(g, wanted, by=SELLER)).then(
        GameUpdated(title="Chess 2")
    )


def test_a_new_game_is_not_born_retired() -> None:
    when(lambda: catalog.create(SELLER, LISTING, "RETIRED")).then_refused(Invalid, "invalid_status")  # type: ignore[arg-type]


def test_the_longest_title_and_sku_and_the_highest_price_are_accepted() -> None:
    extreme = with_(
        title="x" * 300,
        sku="x" * 64,
        prices=(Price("*", 100_000_000, "USD"), Price("US", 0, "USD")),
    )
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
    given(evolve, created()).when(
        lambda g: catalog.update(g, LISTING, by=SELLER, status="DRAFT")
    ).then_refused(Conflict, "game_published")


def test_the_kind_of_a_game_is_fixed() -> None:
    given(evolve, created()).when(
        lambda g: catalog.update(g, with_(kind="PHYSICAL"), by=SELLER)
    ).then_refused(Invalid, "kind_fixed")


def test_only_the_seller_or_an_admin_edits_and_retires() -> None:
    game = given(evolve, created())
    game.when(lambda g: catalog.update(g, with_(title="Mine"), by=STRANGER)).then_refused(
        Forbidden, "not_owner"
    )
    game.when(lambda g: catalog.retire(g, by=STRANGER)).then_refused(Forbidden, "not_owner")
    game.when(lambda g: catalog.update(g, with_(title="Go"), by=STRANGER, is_admin=True)).then(
        GameUpdated(title="Go")
    )
    game.when(lambda g: catalog.retire(g, by=STRANGER, is_admin=True)).then(GameRetired())


def test_a_retired_game_cannot_be_edited_and_stays_retired() -> None:
    retired = given(evolve, created(), GameRetired())
    retired.when(lambda g: catalog.update(g, with_(title="Go"), by=SELLER)).then_refused(
        Conflict, "game_retired"
    )
    retired.when(lambda g: catalog.retire(g, by=SELLER)).then_nothing()


def test_a_region_has_its_own_price_or_the_fallback() -> None:
    game = fold(evolve, created())
    assert catalog.price_for(game, "BR") == BRAZIL
    assert catalog.price_for(game, "DE") == WORLD
    assert catalog.price_for(fold(evolve, created(), GameUpdated(prices=(BRAZIL,))), "DE") is None


def test_a_price_of_nothing_is_a_price() -> None:
    free = Price("BR", 0, "BRL")
    assert (
        catalog.price_for(fold(evolve, created(), GameUpdated(prices=(WORLD, free))), "BR") == free
    )


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
    with pytest.raises(Conflict, match="game_unavailable"):
        catalog.offer(fold(evolve, created("ACTIVE"), GameSuspended()), "US")
