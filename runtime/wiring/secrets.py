"""The program's own secrets, which its processes share through the database."""

from dataclasses import dataclass
from os import urandom

from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from api.tokens import new_private_key
from eventstore.keys import secret
from runtime.settings import Settings


@dataclass(frozen=True)
class Secrets:
    """The program's secrets. During a rotation, `webhook` and `carrier` have several; the first one
    signs."""

    pepper: bytes
    mail: bytes
    signing_key: bytes
    fingerprints: bytes
    client_secrets: bytes
    web: bytes
    webhook: tuple[str, ...]
    carrier: tuple[str, ...]
    provider_key: str
    fiscal_key: str


async def read_secrets(settings: Settings, pool: AsyncConnectionPool) -> Secrets:
    """The secrets that were set. All others come from the database, and are generated if it has
    none yet."""
    return Secrets(
        pepper=await secret(pool, "email_pepper", lambda: urandom(32)),
        mail=await secret(pool, "mail_tokens", lambda: urandom(32)),
        signing_key=await secret(pool, "access_tokens", new_private_key),
        fingerprints=await secret(pool, "request_fingerprints", lambda: urandom(32)),
        client_secrets=await secret(pool, "client_secrets", lambda: urandom(32)),
        web=await secret(pool, "web_sessions", lambda: urandom(32)),
        webhook=await _shared(pool, "payment_webhook", settings.payment_webhook_secrets),
        carrier=await _shared(pool, "carrier_webhook", settings.carrier_webhook_secrets),
        provider_key=await _key(pool, "provider_api", settings.provider_key),
        fiscal_key=await _key(pool, "fiscal_api", settings.fiscal_key),
    )


async def _key(pool: AsyncConnectionPool, name: str, given: SecretStr) -> str:
    """The key of an API that only this program's processes call: as set, or generated and
    stored."""
    made = await secret(pool, name, lambda: b"sk_" + urandom(24).hex().encode())
    return given.get_secret_value() or made.decode()


async def _shared(
    pool: AsyncConnectionPool, name: str, given: tuple[SecretStr, ...]
) -> tuple[str, ...]:
    """The secrets shared with the callers of a webhook: as set, or one that is generated and
    stored."""
    made = await secret(pool, name, lambda: b"whsec_" + urandom(24).hex().encode())
    return tuple(each.get_secret_value() for each in given) or (made.decode(),)
