"""Pictures of games: sellers upload them or name a URL, and everybody can load them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, UploadFile
from pydantic import Field
from starlette.responses import Response

from api.answers import answer, has_tag
from api.auth import EVERYBODY, Merchant
from api.fields import Answer, Body, SingleLine
from api.problems import Problem
from api.services import Services, ServicesOf
from commands.images import MAX_IMAGE_BYTES, Size

router = APIRouter(prefix="/api/v1", tags=["catalog"])

_FOREVER = "public, max-age=31536000, immutable"
_MEDIA_TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"))


class ImageAddress(Body):
    """Where to fetch the image: a public https URL."""

    url: Annotated[SingleLine, Field(min_length=1, max_length=2048)]


class ImageView(Answer):
    """A stored image. `url` serves it; with `?size=thumb`, its thumbnail."""

    image_id: UUID
    url: str


@router.post("/catalog/images", status_code=201, response_model=ImageView)
async def upload_image(file: UploadFile, services: ServicesOf, caller: Merchant) -> Response:
    """Upload a PNG, JPEG or WebP image of at most 5 MiB. Its metadata is removed. Requires SELLER
    or ADMIN. Errors: 422 `image_unsupported`, `image_broken`, `image_too_large` (too many
    pixels)."""
    content = await file.read(MAX_IMAGE_BYTES + 1)
    if len(content) > MAX_IMAGE_BYTES:
        raise Problem(413, "body_too_large", f"an image has at most {MAX_IMAGE_BYTES} bytes")
    return await _taken(services, await services.commands.images.upload(caller, content))


@router.post("/catalog/images/from-url", status_code=201, response_model=ImageView)
async def image_from_url(body: ImageAddress, services: ServicesOf, caller: Merchant) -> Response:
    """Fetch an image from a URL, and store it like an upload. Errors: those of an upload; 422
    `image_url_refused` if the URL, or a redirect, leads to an address that is not public; 422
    `image_unreachable`."""
    return await _taken(services, await services.commands.images.upload_from(caller, body.url))


async def _taken(services: Services, image_id: UUID) -> Response:
    url = f"/api/v1/images/{image_id}"
    view = ImageView(image_id=image_id, url=url)
    return answer(view, status=201, position=await services.log.head(), headers={"Location": url})


@router.get(
    "/images/{image_id}",
    response_class=Response,
    dependencies=[EVERYBODY],
    responses={
        200: {
            "content": {media_type: {} for _, media_type in _MEDIA_TYPES},
            "description": "The image.",
        }
    },
)
async def get_image(
    image_id: UUID,
    request: Request,
    services: ServicesOf,
    size: Annotated[
        Size, Query(description="`thumb` is at most 320 pixels wide and high.")
    ] = "full",
) -> Response:
    """Return an image. The content of an id never changes, so it can be cached for ever."""
    headers = {
        "ETag": f'"{image_id}-{size}"',
        "Cache-Control": _FOREVER,
    }
    known = has_tag(request, headers["ETag"])
    # `*` names no image, and there may be none: look
    if known and "*" not in request.headers["if-none-match"]:
        return Response(None, 304, headers)
    content = await services.commands.images.read(image_id, size)
    if known:
        return Response(None, 304, headers)
    return Response(content, 200, headers, _media_type(content))


def _media_type(content: bytes) -> str:
    return next(media_type for head, media_type in _MEDIA_TYPES if content.startswith(head))
