"""Style sheets, scripts and icons. Their names contain a digest of their content, so that browsers
keep them for a year and still get a changed one at once."""

import gzip
import hashlib
import re
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _File:
    """A file. `zipped` is None if its format is compressed already."""

    content: bytes
    zipped: bytes | None
    kind: str
    digest: str


class _Route:
    """What the files have in common, for metrics and logs."""

    path = PATH


class StaticFiles:
    """The files of a folder, in memory, as they are and compressed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._urls: dict[str, str] = {}
        self._files: dict[str, _File] = {}
        contents = {
            path: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES
        }
        # what others name comes first: its name depends on its content, and so theirs do
        for path, content in sorted(contents.items(), key=lambda file: bool(_URL.search(file[1]))):
            whole = _URL.sub(self._named, content) if path.suffix == ".css" else content
            digest = hashlib.sha256(whole).hexdigest()[:16]
            name = f"{path.stem}.{digest}{path.suffix}"
            self._urls[path.name] = PATH.format(name=name)
            kind = _TYPES[path.suffix]
            zipped = None if path.suffix == ".woff2" else gzip.compress(whole, mtime=0)
            self._files[name] = _File(whole, zipped, kind, digest)

    def _named(self, found: re.Match[bytes]) -> bytes:
        return b'url("%b")' % self.url(found[1].decode()).encode()

    def url(self, name: str) -> str:
        """The path of a file. Raises KeyError."""
        return self._urls[name]

    async def serve(self, request: Request) -> Response:
        """Answer with a file, compressed for clients that accept that."""
        request.scope["route"] = _Route
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        accepts = _accepts_gzip(request.headers.get("accept-encoding", ""))
        zipped = found.zipped if accepts else None
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "ETag": f'"{found.digest}{"-gzip" if zipped else ""}"',
            "Vary": "Accept-Encoding",
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(None, 304, headers)
        if zipped is not None:
            headers["Content-Encoding"] = "gzip"
        return Response(zipped or found.content, media_type=found.kind, headers=headers)


def _accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding field names gzip, other than to refuse it (`gzip;q=0`)."""
    for each in accepted.lower().split(","):
        name, _, weight = each.replace(" ", "").partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" if weight else True
    return False
