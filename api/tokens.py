"""Clients' tokens: access tokens (JWT, signed with Ed25519, valid for 15 minutes) and refresh
tokens.

One key signs both. Audience and type differ, so that neither is accepted as the other. A refresh
token names a session and its generation; the session knows which generation was already used.
"""

import hashlib
import warnings
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey

from commands.accounts.session_ends import SKEW, Opened
from domain.errors import Unauthorized
from domain.identity import AccountType
from kit.clock import Clock
from kit.uuid7 import uuid7

# RFC 9864 renames the algorithm to "Ed25519", which few clients know yet.
warnings.filterwarnings("ignore", message="EdDSA is deprecated")

T = TypeVar("T")

ACCESS_LIFETIME = timedelta(minutes=15)
ALGORITHM = "EdDSA"
VERIFIED_TOKENS = 10_000
"""How many access tokens a process remembers as verified: a signature takes longer to check than a
page of games to answer."""
ACCESS_TYPE, REFRESH_TYPE = "at+jwt", "refresh+jwt"


class AccessClaims(msgspec.Struct, frozen=True):
    """The claims of a valid access token. `epoch` is the account's epoch when the session was
    opened."""

    user_id: UUID
    account_type: AccountType
    session_id: UUID
    expires_at: datetime
    epoch: int = 0

    @property
    def opened(self) -> Opened:
        """The session, for `commands.accounts.session_ends`, which knows whether it has ended."""
        return Opened(self.user_id, self.session_id, self.epoch)


class RefreshClaims(msgspec.Struct, frozen=True):
    """The claims of a valid refresh token."""

    session_id: UUID
    generation: int


class _Verified(msgspec.Struct, frozen=True):
    """An access token whose signature was checked, with the times to check each time it is used."""

    access: AccessClaims
    iat: int
    exp: int


def new_private_key() -> bytes:
    """Generate a signing key (PEM, PKCS #8)."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Tokens:
    """Mints and reads tokens. `private_key` is PEM. Tokens are accepted only with this `issuer` and
    `audience`."""

    def __init__(self, private_key: bytes, issuer: str, audience: str, clock: Clock) -> None:
        key = OKPKey.import_key(private_key)
        self._key = OKPKey.import_key(
            private_key, {"kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM}
        )
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        """The access tokens that were read last, by digest: a dump of memory gives none away."""

    def jwks(self) -> dict[str, object]:
        """The public key as a JWK set (RFC 7517), with which anybody can verify an access token."""
        return cast(dict[str, object], KeySet([self._key]).as_dict(private=False))

    # -- access ------------------------------------------------------------------------------------

    def mint_access(
        self, user_id: UUID, account_type: AccountType, session_id: UUID, epoch: int = 0
    ) -> str:
        """An access token that is valid from now on."""
        who: dict[str, object] = {"sub": str(user_id), "role": account_type}
        claims: dict[str, object] = {**who, "sid": str(session_id), "epoch": epoch}
        return self._mint(ACCESS_TYPE, self._audience, self._clock.now() + ACCESS_LIFETIME, claims)

    def read_access(self, token: str) -> AccessClaims:
        """The token's claims. Raises Unauthorized("invalid_token") if it is forged, expired, or has
        another type, audience or issuer."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        verified = self._verified.get(digest)
        if verified is None:
            verified = self._verify_access(token)
            self._verified[digest] = verified
            if len(self._verified) > VERIFIED_TOKENS:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(digest)
        now = self._clock.now()
        # A token minted while a clock was ahead would outlive the record of its session's end.
        if not int(now.timestamp()) < verified.exp or verified.iat > (now + SKEW).timestamp():
            self._verified.pop(digest, None)
            raise _invalid()
        return verified.access

    def _verify_access(self, token: str) -> _Verified:
        """Check all but what time changes."""
        claims = self._claims(ACCESS_TYPE, self._audience, token)
        named = {
            "user_id": claims.get("sub"),
            "account_type": claims.get("role"),
            "session_id": claims.get("sid"),
        }
        exp, epoch = cast(int, claims["exp"]), claims.get("epoch", 0)
        expires_at = datetime.fromtimestamp(exp, UTC)
        access = _convert({**named, "epoch": epoch, "expires_at": expires_at}, AccessClaims)
        return _Verified(access, cast(int, claims["iat"]), exp)

    # -- refresh -----------------------------------------------------------------------------------

    def mint_refresh(self, session_id: UUID, generation: int, expires_at: datetime) -> str:
        """The refresh token of one generation of a session."""
        claims: dict[str, object] = {"sid": str(session_id), "gen": generation}
        return self._mint(REFRESH_TYPE, self._refresh_audience, expires_at, claims)

    def read_refresh(self, token: str) -> RefreshClaims:
        """The token's claims. Raises Unauthorized("invalid_token")."""
        claims = self._claims(REFRESH_TYPE, self._refresh_audience, token)
        return _convert(
            {"session_id": claims.get("sid"), "generation": claims.get("gen")}, RefreshClaims
        )

    @property
    def _refresh_audience(self) -> str:
        return self._audience + "/refresh"

    # -- both --------------------------------------------------------------------------------------

    def _mint(
        self, typ: str, audience: str, expires_at: datetime, claims: dict[str, object]
    ) -> str:
        now = int(self._clock.now().timestamp())
        standard = {
            "iss": self._issuer,
            "aud": audience,
            "iat": now,
            "exp": int(expires_at.timestamp()),
        }
        header = {"alg": ALGORITHM, "typ": typ, "kid": self._key.kid}
        return jwt.encode(
            header, {**claims, **standard, "jti": str(uuid7())}, self._key, algorithms=[ALGORITHM]
        )

    def _claims(self, typ: str, audience: str, token: str) -> dict[str, object]:
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )
        try:
            decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
            if decoded.header.get("typ") != typ:
                raise ValueError("a token for another purpose")
            # Without iat: the clock that the token was minted by may be ahead, within limits.
            registry.validate(
                {name: claim for name, claim in decoded.claims.items() if name != "iat"}
            )
            if not isinstance(decoded.claims.get("iat"), int):
                raise ValueError("a token without a time")
        except (JoseError, ValueError, TypeError) as error:
            raise _invalid() from error
        return decoded.claims


def _convert(claims: dict[str, object], into: type[T]) -> T:
    try:
        return msgspec.convert(claims, into)
    except msgspec.ValidationError as error:
        raise _invalid() from error


def _invalid() -> Unauthorized:
    return Unauthorized("invalid_token", "the token is wrong or has expired")
