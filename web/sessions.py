"""The browser's session: in a cookie that only this program can read or make.

It holds the tokens of the API's session and is bound to it: signing out ends both. The cookie is
sealed with AES-256-GCM under a secret that all processes share, so any of them serves any request,
and nothing is stored.
"""

import base64
import hashlib
import hmac
import secrets
from os import urandom

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.requests import Request
from starlette.responses import Response

_PURPOSE = b"session 1"
_NONCE_BYTES = 12

LIFETIME_SECONDS = 30 * 24 * 3600
"""As long as the API's sessions."""


class User(msgspec.Struct, frozen=True):
    """The account that is signed in, as of the last answer about it."""

    id: str
    name: str | None
    email: str | None
    account_type: str
    region: str
    email_verified: bool


class Session(msgspec.Struct, frozen=True):
    """A browser's session, without an account if `user` is None.

    `csrf` is what each of its forms must send. The access token ends at `access_ends` (seconds
    since 1970). `notice` is shown on the next page, once.
    """

    csrf: str
    user: User | None = None
    access_token: str = ""
    refresh_token: str = ""
    access_ends: float = 0.0
    notice: str = ""


def new_session() -> Session:
    """A session without an account."""
    return Session(csrf=secrets.token_urlsafe(18))


class Sealer:
    """Reads and writes the cookies. `secret` has 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(hashlib.sha256(b"cookies" + secret).digest())
        self._key = hashlib.sha256(b"refreshes" + secret).digest()

    def seal(self, session: Session) -> str:
        """The session as a cookie's value."""
        nonce = urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, msgspec.msgpack.encode(session), _PURPOSE)
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, value: str) -> Session | None:
        """The session in a cookie; None if this program did not make it."""
        try:
            sealed = base64.urlsafe_b64decode(value.encode("ascii", "replace") + b"==")
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            plain = self._cipher.decrypt(nonce, rest, _PURPOSE)
            return msgspec.msgpack.decode(plain, type=Session)
        except (ValueError, InvalidTag, msgspec.DecodeError):
            return None

    def refresh_key(self, refresh_token: str) -> str:
        """The Idempotency-Key under which this token is exchanged. All windows of a browser have
        the same, at all processes, so that two exchanges at once are one."""
        return hmac.new(self._key, refresh_token.encode(), hashlib.sha256).hexdigest()


def read_cookie(request: Request, sealer: Sealer) -> Session | None:
    """The session of a request."""
    value = request.cookies.get(_name(request))
    return sealer.open(value) if value else None


def set_cookie(request: Request, response: Response, sealer: Sealer, session: Session) -> None:
    """Have the browser keep the session."""
    response.set_cookie(
        _name(request),
        sealer.seal(session),
        max_age=LIFETIME_SECONDS,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


def _name(request: Request) -> str:
    """The name of the cookie. Browsers accept the prefix only over TLS, and from no other host of
    the domain."""
    return "__Host-session" if _is_secure(request) else "session"


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"
