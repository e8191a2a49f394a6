"""Commands on images: they append no events."""

from uuid import UUID

import pytest

from domain.errors import Forbidden, Invalid, NotFound
from tests.support.commands import Shop
from tests.support.given_when_then import an_id
from tests.support.past import ANA, SELLER


async def test_a_seller_uploads_an_image_and_everybody_reads_it(shop: Shop) -> None:
    image_id = await shop.images.upload(SELLER, b"image 1")
    assert await shop.images.read(image_id) == b"image 1"
    assert await shop.images.read(image_id, "thumb") == b"small image 1"


async def test_the_same_bytes_are_the_same_image(shop: Shop) -> None:
    one = await shop.images.upload(SELLER, b"image 1")
    assert await shop.images.upload(SELLER, b"image 1") == one
    assert await shop.images.upload(SELLER, b"image 2") != one


async def test_an_image_may_come_from_elsewhere(shop: Shop) -> None:
    image_id = await shop.images.upload_from(SELLER, "https://example.org/1.png")
    assert await shop.images.read(image_id) == b"image of https://example.org/1.png"
    with pytest.raises(Invalid, match="image_unreachable"):
        await shop.images.upload_from(SELLER, "https://nowhere.example/1.png")


async def test_a_buyer_uploads_nothing_and_nobody_what_is_no_image(shop: Shop) -> None:
    with pytest.raises(Forbidden, match="not_a_seller"):
        await shop.images.upload(ANA, b"image 1")
    with pytest.raises(Invalid, match="image_unsupported"):
        await shop.images.upload(SELLER, b"a virus")
    assert shop.fakes.image_store.kept == {}


async def test_a_game_shows_only_images_that_are_there(shop: Shop) -> None:
    image_id = await shop.images.upload(SELLER, b"image 1")
    await shop.images.check(SELLER, [image_id])
    await shop.images.check(ANA, [])
    with pytest.raises(Invalid, match="image_not_found"):
        await shop.images.check(SELLER, [image_id, an_id("?")])
    with pytest.raises(NotFound, match="image_not_found"):
        await shop.images.read(UUID(int=0))
