"""The pictures of a game."""

from collections.abc import Callable

from starlette.datastructures import UploadFile
from starlette.responses import Response

from web.api_client import Nothing, Problem
from web.routing import FormLimits
from web.sell.access import desk_router
from web.sell.answers import Stored
from web.sell.games import MAX_FILE_BYTES, MAX_FILES, game_page, own_game, path_of
from web.visit import Visit
from web.words import sentence

router = desk_router()

UPLOADS = FormLimits(files=MAX_FILES, file_bytes=MAX_FILE_BYTES)
TRIES = 3

Ids = list[str]


@router.post("/sell/games/{game_id}/pictures", limits=UPLOADS)
async def upload(visit: Visit) -> Response:
    """Add the chosen files that are pictures."""
    await own_game(visit)
    if not visit.files:
        visit.form.errors["file"] = "Choose a picture first."
    stored: Ids = []
    for file in visit.files:
        try:
            stored.append(await _store(visit, file))
        except Problem as problem:
            if problem.status == 401 or problem.status >= 429:
                raise
            visit.form.errors["file"] = f"{file.filename}: {sentence(problem)}"
    if stored:
        await _change(visit, lambda ids: [*ids, *stored])
    return await _done(visit, "The pictures are added.")


async def _store(visit: Visit, file: UploadFile) -> str:
    content = await file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise Problem("body_too_large", 413)
    return (await visit.api.upload("/api/v1/catalog/images", content, Stored)).image_id


@router.post("/sell/games/{game_id}/pictures/from-url")
async def fetch(visit: Visit) -> Response:
    """Add the picture at a URL."""
    await own_game(visit)
    body = {"url": visit.form.text("url")}
    try:
        stored = await visit.api.post("/api/v1/catalog/images/from-url", body, Stored)
    except Problem as problem:
        if problem.status < 429 and not problem.errors:
            visit.form.errors["url"] = sentence(problem)
        else:
            visit.form.refuse(problem)
    else:
        await _change(visit, lambda ids: [*ids, stored.image_id])
    return await _done(visit, "The picture is added.")


@router.post("/sell/games/{game_id}/pictures/{image_id}/remove")
async def remove(visit: Visit) -> Response:
    """Take a picture out."""
    gone = visit.id("image_id")
    await _change(visit, lambda ids: [each for each in ids if each != gone])
    return await _done(visit, "The picture is removed.")


@router.post("/sell/games/{game_id}/pictures/{image_id}/first")
async def put_first(visit: Visit) -> Response:
    """Make a picture the cover."""
    cover = visit.id("image_id")
    await _change(visit, lambda ids: sorted(ids, key=lambda each: each != cover))
    return await _done(visit, "The cover is changed.")


async def _change(visit: Visit, change: Callable[[Ids], Ids]) -> None:
    """Change which pictures the game has, from what it has now: another window may change them at
    the same time."""
    for left in reversed(range(TRIES)):
        game = await own_game(visit)
        try:
            body = {"image_ids": change(game.image_ids)}
            await visit.api.put(path_of(visit), body, Nothing, version=game.version)
        except Problem as problem:
            if problem.status != 412 or not left:
                visit.form.refuse(problem)
                return
        else:
            return


async def _done(visit: Visit, notice: str) -> Response:
    if visit.form.is_refused:
        return await game_page(visit, "pictures", status=422)
    page = f"/sell/games/{visit.id('game_id')}"
    # a script that goes to another place of the page it is on would not load it again
    return visit.go(page if visit.is_fragment else f"{page}#pictures", notice)
