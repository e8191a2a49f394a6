"""Header fields of every page."""

from starlette.datastructures import MutableHeaders

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data:",  # the style sheet's icons
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
    ("Cache-Control", "private, no-cache"),
)
_HSTS = ("Strict-Transport-Security", "max-age=31536000")


def add_headers(headers: MutableHeaders, *, secure: bool) -> None:
    """Add the fields that the answer does not set itself. `secure` means that it goes over TLS."""
    for name, value in _HEADERS:
        headers.setdefault(name, value)
    if secure:
        headers.setdefault(*_HSTS)
