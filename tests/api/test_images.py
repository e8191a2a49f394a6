"""Images of games over HTTP: uploading, fetching from URLs, serving."""

import dataclasses
import io
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from api.app import create_app
from commands.images import MAX_IMAGE_BYTES
from commands.ports.images import ImageStoreUnavailable
from tests.support.images import an_image
from tests.support.shops.gateway import Person, Shop, a_game, replaced
from tests.support.shops.small_gateway import client_of

PATH = "/api/v1/catalog/images"


async def upload(person: Any, content: bytes, path: str = PATH, name: str = "cover.png") -> Any:
    return await person.post(path, files={"file": (name, content, "image/png")})


@pytest.mark.parametrize(
    ("format", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
async def test_an_uploaded_image_is_served_to_everybody(
    shop: Shop, seller: Person, format: str, media_type: str
) -> None:
    taken = await upload(seller, an_image(format, (800, 400)), name="whatever.exe")

    assert taken.status_code == 201, taken.text
    view = taken.json()
    assert view == {"image_id": view["image_id"], "url": f"/api/v1/images/{view['image_id']}"}
    for query, width in (("", 800), ("?size=thumb", 320)):
        served = await shop.client().get(view["url"] + query)
        assert (served.status_code, served.headers["content-type"]) == (200, media_type)
        assert Image.open(io.BytesIO(served.content)).width == width
        assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert served.headers["x-content-type-options"] == "nosniff"


async def test_who_has_an_image_is_not_sent_it_again(
    shop: Shop, seller: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (await upload(seller, an_image())).json()["url"]
    client = shop.client()
    full, thumbnail = await client.get(url), await client.get(url + "?size=thumb")

    other = await client.get(url, headers={"If-None-Match": thumbnail.headers["etag"]})
    whatever, none = [
        (await client.get(path, headers={"If-None-Match": "*"})).status_code
        for path in (url, f"/api/v1/images/{uuid4()}")
    ]
    monkeypatch.setattr(shop.commands.images, "_store", None)  # which needs no request
    again = await client.get(url, headers={"If-None-Match": full.headers["etag"]})

    assert (whatever, none) == (304, 404)
    assert (again.status_code, again.content, again.headers["etag"]) == (
        304,
        b"",
        full.headers["etag"],
    )
    assert again.headers["cache-control"] == full.headers["cache-control"]
    assert other.status_code == 200


async def test_the_same_picture_twice_is_one_image(seller: Person, admin: Person) -> None:
    content = an_image("PNG", (31, 17))
    first = await upload(seller, content)

    assert (await upload(admin, content, PATH + "/upload")).json() == first.json()


async def test_only_sellers_and_admins_upload(shop: Shop, buyer: Person) -> None:
    assert (await upload(shop.client(), an_image())).status_code == 401
    for answer in (
        await upload(buyer, an_image()),
        await buyer.post(PATH + "/from-url", json={"url": "https://x.org"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_a_seller")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "image_unsupported"),
        (b"MZ\x90\x00" + bytes(500), "image_unsupported"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "image_unsupported"),
        (an_image("GIF"), "image_unsupported"),
        (an_image("PNG", noise=True)[:500], "image_broken"),
    ],
    ids=["nothing", "EXE", "SVG", "GIF", "truncated"],
)
async def test_what_is_no_image_is_refused_whatever_its_name(
    seller: Person, content: bytes, code: str
) -> None:
    answer = await upload(seller, content)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_request_without_a_file_is_refused(seller: Person) -> None:
    form = {"content-type": "multipart/form-data"}

    assert (await seller.post(PATH, json={})).status_code == 415
    broken = await seller.post(PATH, content=b"--x", headers=form)
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_form")


async def test_an_image_has_five_mebibytes_at_most_and_no_other_body_as_many(
    seller: Person,
) -> None:
    photo = an_image("PNG", (1400, 1000), noise=True)
    assert 2**20 < len(photo) < MAX_IMAGE_BYTES
    assert (await upload(seller, photo)).status_code == 201

    for length in (MAX_IMAGE_BYTES + 1, MAX_IMAGE_BYTES * 2):
        answer = await upload(seller, photo + bytes(length - len(photo)))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert (await seller.post(PATH + "/from-url", content=bytes(2**20 + 1))).status_code == 413


@pytest.mark.parametrize("path", ["/from-url", "/upload-url"])
async def test_an_image_of_our_own_network_is_refused(seller: Person, path: str) -> None:
    for url in (
        "https://127.0.0.1/a.png",
        "https://localhost:8443/a.png",
        "http://example.com/a.png",
        "file:///a.png",
    ):
        answer = await seller.post(PATH + path, json={"url": url})
        assert (answer.status_code, answer.json()["code"]) == (422, "image_url_refused"), url


class Web:
    """A web in which every URL is the same picture."""

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        return an_image("WEBP")


async def test_an_image_from_a_url_is_served_as_one_of_ours(
    shop: Shop, seller: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.commands.images, "_fetcher", Web())

    taken = await seller.post(
        PATH + "/from-url", json={"url": "https://pictures.example/cover.webp"}
    )

    assert taken.status_code == 201
    assert taken.json() == (await upload(seller, an_image("WEBP"))).json()


async def test_a_game_shows_only_images_that_are_there(shop: Shop, seller: Person) -> None:
    image_id = (await upload(seller, an_image())).json()["image_id"]
    game = await shop.game(seller, image_ids=[image_id])
    found = await seller.get(
        f"/api/v1/games/search?seller_id={seller.id}", headers=await shop.reached()
    )
    shown = {each["id"]: each["image_ids"] for each in found.json()["items"]}
    assert game["image_ids"] == shown[game["id"]] == [image_id]

    path, unknown = f"/api/v1/games/{game['id']}", {"image_ids": [image_id, str(uuid4())]}
    for answer in (
        await seller.put(path, json=unknown),
        await seller.post("/api/v1/games", json=a_game(**unknown)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "image_not_found")


async def test_for_a_game_of_somebody_who_may_not_sell_no_image_is_looked_for(
    shop: Shop, seller: Person, buyer: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, pictures = await shop.game(seller), {"image_ids": [str(uuid4())]}
    monkeypatch.setattr(shop.commands.images, "_store", None)

    listed = await buyer.post("/api/v1/games", json=a_game(**pictures))
    edited = await buyer.put(f"/api/v1/games/{game['id']}", json=pictures)

    assert [(each.status_code, each.json()["code"]) for each in (listed, edited)] == [
        (403, "not_a_seller")
    ] * 2


async def test_an_unknown_image_is_not_found(shop: Shop) -> None:
    answer = await shop.client().get(f"/api/v1/images/{uuid4()}")

    assert (answer.status_code, answer.json()["code"]) == (404, "image_not_found")
    assert "immutable" not in answer.headers.get("cache-control", "")


async def test_while_the_store_is_down_images_are_unavailable(shop: Shop) -> None:
    class Down:
        async def read(self, *_: object) -> bytes:
            raise ImageStoreUnavailable("no route to the bucket")

    commands = replaced(shop.commands, images=Down())
    services = dataclasses.replace(
        shop.services, commands=commands, dependency_errors=(ImageStoreUnavailable,)
    )
    answer = await client_of(create_app(services)).get(f"/api/v1/images/{uuid4()}")

    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    assert answer.headers["retry-after"]
