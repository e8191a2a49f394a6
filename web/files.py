"""Answers that browsers save as files."""

from starlette.responses import Response

from web.api_client import Answer

_KEPT = ("content-type", "content-disposition")


def as_file(answer: Answer, name: str = "") -> Response:
    """An answer as a file, byte for byte. `name` is the file's, unless the API gives another."""
    headers = {header: answer.headers[header] for header in _KEPT if header in answer.headers}
    headers.setdefault("content-disposition", f'attachment; filename="{name}"')
    return Response(answer.body, headers={**headers, "Cache-Control": "no-store"})


def text_file(text: str, name: str) -> Response:
    """A text as a file."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(text, headers=headers, media_type="text/plain")
