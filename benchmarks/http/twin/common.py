"""Shared by the twin's endpoints: connections, the caller, idempotency keys."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import psycopg
from fastapi import Depends, Header, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

Connection = psycopg.AsyncConnection[DictRow]

ISSUER = AUDIENCE = "twin"
POOL_SIZE = 10
"""As `LUDOTECA_POOL_SIZE`."""

PAYMENT_LIFETIME = timedelta(minutes=30)
KEY_LIFETIME = timedelta(days=1)


def new_pool(url: str) -> AsyncConnectionPool[Connection]:
    """Connections whose rows are dictionaries; a statement outside a transaction commits by
    itself."""
    return AsyncConnectionPool(
        url,
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        kwargs={"row_factory": dict_row, "autocommit": True},
        connection_class=Connection,
        open=False,
    )


async def _pool(request: Request) -> AsyncConnectionPool[Connection]:
    pool: AsyncConnectionPool[Connection] = request.app.state.pool
    return pool


Pool = Annotated[AsyncConnectionPool[Connection], Depends(_pool)]


# -- the caller ------------------------------------------------------------------------------------


class User(NamedTuple):
    """A caller with an open account."""

    id: UUID
    region: str


_claims = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    exp={"essential": True},
    sub={"essential": True},
)
_bearer = HTTPBearer()


def mint(key: OKPKey, user_id: UUID, lifetime: timedelta) -> str:
    """An access token."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(user_id)}
    expires_at = int((datetime.now(UTC) + lifetime).timestamp())
    return jwt.encode({"alg": "EdDSA"}, {**claims, "exp": expires_at}, key, algorithms=["EdDSA"])


async def _user(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)],
    pool: Pool,
) -> User:
    try:
        token = jwt.decode(credentials.credentials, request.app.state.key, algorithms=["EdDSA"])
        _claims.validate(token.claims)
    except (JoseError, ValueError) as error:
        raise HTTPException(401, "the token is wrong or has expired") from error
    user_id = UUID(token.claims["sub"])
    async with pool.connection() as conn:
        found = await one(conn, "SELECT status, region FROM users WHERE id = %s", user_id)
    if found is None or found["status"] != "ACTIVE":
        raise HTTPException(401, "the account is closed")
    return User(user_id, found["region"])


SignedIn = Annotated[User, Depends(_user)]


# -- statements ------------------------------------------------------------------------------------


async def one(conn: Connection, statement: str, *parameters: object) -> DictRow | None:
    """The first row of a statement's result, or None."""
    return await (await conn.execute(statement.encode(), parameters)).fetchone()


async def every(conn: Connection, statement: str, *parameters: object) -> list[DictRow]:
    """All rows of a statement's result."""
    return await (await conn.execute(statement.encode(), parameters)).fetchall()


def price_in(prices: Sequence[Mapping[str, Any]], region: str) -> Mapping[str, Any] | None:
    """The price in a region, or else the price for all others."""
    by_region = {price["region"]: price for price in prices}
    return by_region.get(region) or by_region.get("*")


def images(image_ids: Sequence[UUID]) -> list[dict[str, object]]:
    """The URLs of a game's images."""
    path = "/api/v1/images"
    return [
        {"id": each, "url": f"{path}/{each}", "thumb_url": f"{path}/{each}?size=thumb"}
        for each in image_ids
    ]


# -- idempotency keys ------------------------------------------------------------------------------

IdempotencyKey = Annotated[str | None, Header(max_length=255)]


async def first_result(
    conn: Connection, user: User, key: str | None, body: BaseModel, result_id: UUID
) -> UUID | None:
    """Record a request's key, in the request's own transaction. Returns the result of the same
    request if it was made before. Raises 422 when the key belongs to another request."""
    if key is None:
        return None
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).digest()
    expires_at = datetime.now(UTC) + KEY_LIFETIME
    made = await one(
        conn,
        "INSERT INTO idempotency VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        " RETURNING result_id",
        user.id, key, fingerprint, result_id, expires_at,
    )  # fmt: skip
    if made is not None:
        return None
    done = await one(
        conn,
        "SELECT fingerprint, result_id FROM idempotency WHERE user_id = %s AND key = %s",
        user.id, key,
    )  # fmt: skip
    assert done is not None
    if done["fingerprint"] != fingerprint:
        raise HTTPException(422, "this key was used for another request")
    found: UUID = done["result_id"]
    return found
