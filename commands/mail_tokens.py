"""Tokens that go by mail: to verify an address, to reset a password. Signed (JWT, HS256), short-lived, one purpose."""

import hashlib
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from domain.errors import Invalid

Purpose = Literal["verify-email", "reset-password"]
LIFETIME = {"verify-email": timedelta(days=7), "reset-password": timedelta(hours=1)}


class MailTokens:
    """Makes and reads them. A token is bound to a state (an e-mail's digest, a password's hash): once that has changed,
    the token is worth nothing."""

    def __init__(self, secret: bytes) -> None:
        self._key = OctKey.import_key(secret)

    def make(self, purpose: Purpose, user_id: UUID, bound_to: str, now: datetime) -> str:
        """A token for this person and purpose."""
        claims = {
            "aud": purpose,
            "sub": str(user_id),
            "bnd": _digest(bound_to),
            "exp": int((now + LIFETIME[purpose]).timestamp()),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._key)

    def read(self, purpose: Purpose, token: str, now: datetime) -> tuple[UUID, str]:
        """Whose it is, and the digest of what it is bound to. Raises Invalid("invalid_token")."""
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            if claims["aud"] != purpose or claims["exp"] <= now.timestamp():
                raise ValueError("another purpose, or too late")
            return UUID(claims["sub"]), str(claims["bnd"])
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Invalid("invalid_token", "the token is wrong or has expired") from error

    @staticmethod
    def fits(bound: str, state: str) -> bool:
        """Whether a token's binding is to this state."""
        return bound == _digest(state)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
