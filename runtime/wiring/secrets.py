"""The program's own secrets, which all its processes share through the database."""

from dataclasses import dataclass
from os import urandom

from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from api.tokens import new_private_key
from eventstore.keys import secret
from runtime.settings import Settings


@dataclass(frozen=True)
class Secrets:
    """`webhook` and `carrier` hold several while one is rotated; the first is the one to sign
    by."""

    pepper: bytes
    mail: bytes
    signing_key: bytes
    fingerprints: bytes
    client_secrets: bytes
    webhook: tuple[str, ...]
    carrier: tuple[str, ...]
    provider_key: str
    fiscal_key: str


async def read_secrets(settings: Settings, pool: AsyncConnectionPool) -> Secrets:
    """Those that were set, and for the others what the database keeps; made when it has none
    yet."""
    return Secrets(
        pepper=await secret(pool, "email_pepper", lambda: urandom(32)),
        mail=await secret(pool, "mail_tokens", lambda: urandom(32)),
        signing_key=await secret(pool, "access_tokens", new_private_key),
        fingerprints=await secret(pool, "request_fingerprints", lambda: urandom(32)),
        client_secrets=await secret(pool, "client_secrets", lambda: urandom(32)),
        webhook=await _shared(pool, "payment_webhook", settings.payment_webhook_secrets),
        carrier=await _shared(pool, "carrier_webhook", settings.carrier_webhook_secrets),
        provider_key=await _key(pool, "provider_api", settings.provider_key),
        fiscal_key=await _key(pool, "fiscal_api", settings.fiscal_key),
    )


async def _key(pool: AsyncConnectionPool, name: str, given: SecretStr) -> str:
    """The key of an API that our own processes call: the one that was set, or one that is made and
    kept."""
    made = await secret(pool, name, lambda: b"sk_" + urandom(24).hex().encode())
    return given.get_secret_value() or made.decode()


async def _shared(
    pool: AsyncConnectionPool, name: str, given: tuple[SecretStr, ...]
) -> tuple[str, ...]:
    """The secrets shared with whoever calls a webhook of ours: those that were set, or one that is
    made and kept."""
    made = await secret(pool, name, lambda: b"whsec_" + urandom(24).hex().encode())
    return tuple(each.get_secret_value() for each in given) or (made.decode(),)
