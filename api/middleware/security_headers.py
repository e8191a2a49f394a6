"""Header fields that restrict what browsers do with an answer."""

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse

CSP = "Content-Security-Policy"

_NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_DOCUMENTATION = (
    "default-src 'none'; script-src 'self' {script}; style-src 'self' 'unsafe-inline'; img-src"
    " 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)

HEADERS: Sequence[tuple[str, str]] = (
    (CSP, _NOTHING),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
)
"""Headers of every answer, errors included: an answer is data, is never framed, and leaks no URL in
`Referer`."""


HSTS = ("Strict-Transport-Security", "max-age=31536000")
"""Header of every answer over TLS: for a year browsers come by https only (RFC 6797)."""


def add_security_headers(headers: MutableHeaders, *, secure: bool) -> None:
    """Add the headers that the answer does not set itself; `secure`: it goes over TLS."""
    for name, value in HEADERS:
        headers.setdefault(name, value)
    if secure:
        headers.setdefault(*HSTS)


def allow_inline_script(page: HTMLResponse) -> HTMLResponse:
    """Allow the documentation page its one inline script and the files served here."""
    script = _INLINE.search(bytes(page.body).decode())
    digest = hashlib.sha256(script[1].encode() if script else b"").digest()
    page.headers[CSP] = _DOCUMENTATION.format(
        script=f"'sha256-{base64.b64encode(digest).decode()}'"
    )
    return page
