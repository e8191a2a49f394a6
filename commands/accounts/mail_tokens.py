"""Mailed tokens: to verify an address, to choose a new password, to take an account back. They are
signed (JWT, HS256) and short-lived, and each has one purpose."""

import hashlib
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from domain.errors import Invalid
from domain.identity import User

Purpose = Literal["verify-email", "reset-password", "take-back"]
LIFETIME = {
    "verify-email": timedelta(days=7),
    "reset-password": timedelta(hours=1),
    "take-back": timedelta(days=7),
}


class MailProof(msgspec.Struct, frozen=True):
    """What a valid token proves: its bearer reads mail of the account, in a certain state of it.

    A `take-back` also has the address that it was mailed to (`email`) and the account's session
    epoch.
    """

    purpose: Purpose
    user_id: UUID
    bound: str
    email: str = ""
    epoch: int = 0

    def fits(self, user: User) -> bool:
        """Whether the account is still in the state that the token is bound to."""
        return self.bound == _binding(self.purpose, user)


class MailTokens:
    """Makes and reads tokens. A token is bound to the address, and to the password that it
    replaces: once they have changed, it is invalid. A `take-back` undoes such a change, so it is
    bound to the account alone, which accepts it once (`domain.identity.restore_email`)."""

    def __init__(self, secret: bytes) -> None:
        self._key = OctKey.import_key(secret)

    def make(self, purpose: Purpose, user: User, now: datetime) -> str:
        """A token for the account in its current state."""
        return self._sign(purpose, user, now, {})

    def make_restore_token(self, user: User, email: str, now: datetime) -> str:
        """A token for whoever reads mail at the account's previous address."""
        return self._sign("take-back", user, now, {"eml": email, "epo": user.session_epoch})

    def _sign(self, purpose: Purpose, user: User, now: datetime, more: dict[str, object]) -> str:
        claims = {
            "aud": purpose,
            "sub": str(user.user_id),
            "bnd": _binding(purpose, user),
            "exp": int((now + LIFETIME[purpose]).timestamp()),
        }
        return jwt.encode({"alg": "HS256"}, {**claims, **more}, self._key)

    def read(self, token: str, now: datetime, *purposes: Purpose) -> MailProof:
        """What the token proves. Raises Invalid("invalid_token") when it is for none of these
        purposes, or has expired."""
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            if claims["aud"] not in purposes or claims["exp"] <= now.timestamp():
                raise ValueError("another purpose, or too late")
            email, epoch = claims.get("eml", ""), claims.get("epo", 0)
            return MailProof(claims["aud"], UUID(claims["sub"]), str(claims["bnd"]), email, epoch)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Invalid("invalid_token", "the token is wrong or has expired") from error


def _binding(purpose: Purpose, user: User) -> str:
    rests_on = {
        "verify-email": [user.email_digest],
        "reset-password": [user.password_hash, user.email_digest],
        "take-back": [],
    }
    return hashlib.sha256("\n".join(rests_on[purpose]).encode()).hexdigest()
