"""Style sheets, scripts and icons. Their names contain a digest of their content, so that browsers
keep them for a year and still get a changed one at once."""

import hashlib
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
PATH = "/static/{name}"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_URL = re.compile(rb'url\("([\w-]+\.(?:woff2|css))"\)')
"""Another of these files, as a style sheet names it."""


class StaticFiles:
    """The files of a folder, in memory."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._urls: dict[str, str] = {}
        self._files: dict[str, tuple[bytes, str]] = {}
        contents = {
            path: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES
        }
        # what others name comes first: its name depends on its content, and so theirs do
        for path, content in sorted(contents.items(), key=lambda file: bool(_URL.search(file[1]))):
            whole = _URL.sub(self._named, content) if path.suffix == ".css" else content
            digest = hashlib.sha256(whole).hexdigest()[:16]
            name = f"{path.stem}.{digest}{path.suffix}"
            self._urls[path.name] = PATH.format(name=name)
            self._files[name] = (whole, _TYPES[path.suffix])

    def _named(self, found: re.Match[bytes]) -> bytes:
        return b'url("%b")' % self.url(found[1].decode()).encode()

    def url(self, name: str) -> str:
        """The path of a file. Raises KeyError."""
        return self._urls[name]

    async def serve(self, request: Request) -> Response:
        """Answer with a file."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        content, kind = found
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=headers)
