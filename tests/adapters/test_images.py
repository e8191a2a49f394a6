"""Images: which files are accepted, what is stored of them and where, and from where they may be
fetched."""

import asyncio
import io
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from adapters import public_http
from adapters.images.fetcher import REDIRECTS, HttpImageFetcher
from adapters.images.folder import ImageFolder
from adapters.images.pillow import picture_of
from commands.ports.images import ImageStore, ImageStoreUnavailable
from domain import web_addresses
from domain.errors import Invalid
from kit.circuit import FAILURES_TO_OPEN
from tests.support.images import an_image
from tests.support.servers.shared import free_port

KINDS = ["PNG", "JPEG", "WEBP"]


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


# -- content ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", KINDS)
def test_an_image_stays_what_it_is_and_gets_a_thumbnail(format: str) -> None:
    picture = picture_of(an_image(format, (3000, 1500)))

    full, thumbnail = opened(picture.full), opened(picture.thumbnail)
    assert (full.format, full.size) == (format, (2048, 1024))
    assert (thumbnail.format, thumbnail.size) == (format, (320, 160))
    pixel = full.convert("RGB").getpixel((5, 5))
    assert isinstance(pixel, tuple)
    red, green, _ = pixel
    assert red > 200 > 60 > green


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "1"])
def test_whatever_its_colours_a_png_can_be_drawn(mode: str) -> None:
    picture = picture_of(an_image("PNG", (40, 20), mode=mode))

    assert opened(picture.full).mode == ("RGBA" if mode.endswith("A") else "RGB")
    assert opened(picture.full).size == opened(picture.thumbnail).size == (40, 20)


def test_where_a_photo_was_taken_is_not_kept_but_which_way_it_is_up() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Secret Camera"  # turned by a quarter
    sent = an_image("JPEG", (40, 20), exif=exif.tobytes())
    assert b"Secret Camera" in sent

    picture = picture_of(sent)

    for content in (picture.full, picture.thumbnail):
        assert b"Secret" not in content
        assert opened(content).size == (20, 40)


def test_a_photo_whose_notes_of_the_camera_are_damaged_is_drawn_upright_all_the_same() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.5  # turned by a quarter; so many dots per inch
    # … are now its width
    damaged = exif.tobytes().replace(b"\x01\x1a\x00\x05", b"\x01\x00\x00\x05")

    for format in KINDS:
        picture = picture_of(an_image(format, (40, 20), exif=damaged))
        assert opened(picture.full).size == opened(picture.thumbnail).size == (20, 40)


def test_what_hides_behind_a_picture_and_all_frames_but_the_first_are_left_out() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)

    assert b"MZ evil" not in picture_of(an_image("PNG") + b"MZ evil").full
    assert getattr(opened(picture_of(file.getvalue()).full), "n_frames", 1) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MZ\x90\x00" + bytes(500),
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.7",
        an_image("GIF"),
    ],
    ids=["nothing", "a renamed EXE", "SVG", "PDF", "GIF"],
)
def test_what_is_no_png_jpeg_or_webp_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid, match="image_unsupported"):
        picture_of(content)


@pytest.mark.parametrize("format", KINDS)
def test_a_truncated_image_is_refused(format: str) -> None:
    content = an_image(format, (200, 200), noise=True)

    for length in (12, 20, 40, len(content) // 2):
        with pytest.raises(Invalid, match=r"image_broken|image_unsupported"):
            picture_of(content[:length])


def test_a_small_file_that_claims_to_be_huge_is_not_drawn() -> None:
    for side in (6_000, 60_000):
        with pytest.raises(Invalid, match="image_too_large"):
            picture_of(a_bomb(side))


def a_bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header claims this many pixels on each side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


# -- stores ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a server with S3's API."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(
            Bucket="pictures"
        )
        yield f"s3://pictures/games/?endpoint={endpoint}&region=us-east-1"
        server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageStore]:
    if request.param == "folder":
        yield ImageFolder(tmp_path / "images")
        return
    url = request.getfixturevalue("s3")
    from adapters.images.s3 import ImageBucket

    bucket = ImageBucket(url)
    yield bucket
    bucket.close()


async def test_a_store_gives_back_what_it_was_given(store: ImageStore) -> None:
    await store.put("abc-full", b"picture")
    await store.put("abc-full", b"picture")

    assert await store.get("abc-full") == b"picture"
    assert await store.get("abc-thumb") is None
    assert (await store.exists("abc-full"), await store.exists("abc-thumb")) == (True, False)


def test_no_half_written_file_is_left_in_the_folder(tmp_path: Path) -> None:
    asyncio.run(ImageFolder(tmp_path).put("abc-full", b"picture"))

    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["abc-full"]


async def test_a_bucket_that_is_not_there_is_told_as_such(s3: str) -> None:
    from adapters.images.s3 import ImageBucket

    bucket = ImageBucket(s3.replace("pictures", "nowhere"))
    for _ in range(FAILURES_TO_OPEN + 1):  # asked each time: S3 is there
        with pytest.raises(ImageStoreUnavailable, match="NoSuchBucket"):
            await bucket.get("abc-full")
    bucket.close()


@pytest.mark.parametrize(
    ("status", "is_left_alone"), [(None, True), (503, True), (429, True), (403, False)]
)
async def test_s3_is_left_alone_when_it_gives_no_answer_or_has_too_much_to_do(
    s3: str, status: int | None, is_left_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError, EndpointConnectionError

    from adapters.images.s3 import ImageBucket

    asked = 0

    def fail(**_: object) -> None:
        nonlocal asked
        asked += 1
        if status is None:
            raise EndpointConnectionError(endpoint_url=s3)
        told = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(told, "GetObject")

    bucket = ImageBucket(s3)
    monkeypatch.setattr(bucket._s3, "get_object", fail)
    for _ in range(2 * FAILURES_TO_OPEN):
        with pytest.raises(ImageStoreUnavailable):
            await bucket.get("abc-full")
    assert asked == (FAILURES_TO_OPEN if is_left_alone else 2 * FAILURES_TO_OPEN)
    bucket.close()


# -- fetching --------------------------------------------------------------------------------------

LIMIT = 10_000


@asynccontextmanager
async def serving(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[str]]]:
    """A server of images and other files, its URL, and the paths requested from it."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        match request.match_info["what"]:
            case "image":
                return web.Response(body=b"picture")
            case "long":
                response = web.StreamResponse()  # without Content-Length
                await response.prepare(request)
                for _ in range(100):
                    await response.write(b"x" * LIMIT)
                return response
            case "to":
                raise web.HTTPFound(request.query["url"])
            case "round":
                raise web.HTTPFound("/round")
            case "never":
                await asyncio.Event().wait()
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{what}", answer)
    server = TestServer(app, host=host, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    try:
        yield str(server.make_url("/")), asked
    finally:
        await server.close()


@pytest.fixture
async def fetcher() -> AsyncIterator[HttpImageFetcher]:
    fetcher = HttpImageFetcher(private="allow", timeout_seconds=5)
    yield fetcher
    await fetcher.aclose()


@pytest.fixture
async def careful() -> AsyncIterator[HttpImageFetcher]:
    """With the check of addresses that production uses."""
    fetcher = HttpImageFetcher(timeout_seconds=5)
    yield fetcher
    await fetcher.aclose()


async def test_an_image_is_fetched_also_after_a_redirect(fetcher: HttpImageFetcher) -> None:
    async with serving() as (url, _):
        assert await fetcher.fetch(url + "image", LIMIT) == b"picture"
        assert await fetcher.fetch(url + "to?url=/image", LIMIT) == b"picture"


async def test_of_what_is_too_long_no_more_is_read(fetcher: HttpImageFetcher) -> None:
    async with serving() as (url, _):
        with pytest.raises(Invalid, match="image_too_large"):
            await fetcher.fetch(url + "long", LIMIT)


async def test_what_cannot_be_had_is_told_as_such(fetcher: HttpImageFetcher) -> None:
    async with serving() as (url, asked):
        for unreachable in (
            url + "missing",
            url + "round",
            f"http://127.0.0.1:{free_port()}/",
            "http://nowhere.invalid/",
        ):
            with pytest.raises(Invalid, match="image_unreachable"):
                await fetcher.fetch(unreachable, LIMIT)
        assert asked.count("/round") == REDIRECTS + 1


async def test_who_takes_too_long_is_left() -> None:
    hasty = HttpImageFetcher(private="allow", timeout_seconds=0.05)
    async with serving() as (url, _):
        with pytest.raises(Invalid, match=r"image_unreachable.*too long"):
            await hasty.fetch(url + "never", LIMIT)
    await hasty.aclose()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "10.0.0.8", "169.254.169.254"]
)
async def test_nothing_is_fetched_from_our_own_network(
    careful: HttpImageFetcher, host: str
) -> None:
    async with serving() as (url, asked):
        port = url.rstrip("/").rpartition(":")[2]
        with pytest.raises(Invalid, match="image_url_refused"):
            await careful.fetch(f"https://{host}:{port}/image", LIMIT)
    assert asked == []


async def test_a_redirect_into_our_own_network_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A public server, for which 127.0.0.2 stands here, redirects us to this machine by several
    names."""
    real = web_addresses.is_public
    for module in (public_http, web_addresses):
        monkeypatch.setattr(
            module, "is_public", lambda address: address == "127.0.0.2" or real(address)
        )
    ca, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.2", "127.0.0.1", "localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    fetcher = HttpImageFetcher(timeout_seconds=5, tls=trusting)
    async with (
        serving("127.0.0.2", context) as (public, _),
        serving("127.0.0.1", context) as (ours, asked),
    ):
        assert await fetcher.fetch(public + "to?url=" + public + "image", LIMIT) == b"picture"
        for target in (
            ours,
            ours.replace("127.0.0.1", "localhost"),
            "http://127.0.0.1/",
            "file:///etc/passwd",
        ):
            with pytest.raises(Invalid, match="image_url_refused"):
                await fetcher.fetch(f"{public}to?url={target}image", LIMIT)
        assert asked == []
    await fetcher.aclose()
