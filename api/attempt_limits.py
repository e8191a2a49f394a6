"""Rate limits of requests that authenticate or send mail: per client, and per account or
address."""

import hashlib
import hmac
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.middleware.limits import Limiter
from api.services import Services, ServicesOf
from domain import email_addresses
from domain.errors import Invalid


class Attempts:
    """The attempts that one request counts. All methods raise Problem 429, and do so no matter
    whether the account exists."""

    def __init__(self, limiter: Limiter, client: str, secret: bytes) -> None:
        self._limiter = limiter
        self._client = client
        self._secret = secret

    async def by_client(self) -> None:
        """Count an attempt by the client."""
        if self._limiter.on:
            await self._limiter.take("attempts", self._client)

    async def on_account(self, email: str) -> None:
        """Count an attempt at the password of the account with this address. A client that has
        logged in to the account before is exempt."""
        account = self._name(email)
        if self._limiter.on and not await self._limiter.is_known(account, self._client):
            await self._limiter.take("account", account)

    async def on_password(self, user_id: UUID) -> None:
        """Count a logged-in user's attempt to give their current password."""
        if self._limiter.on:
            await self._limiter.take("account", str(user_id))

    async def mail_to(self, email: str, by: UUID | None = None) -> None:
        """Count a mail to this address, and to the account `by` that asked to mail a new
        address."""
        if self._limiter.on:
            await self._limiter.take("mails", self._name(email))
            if by is not None:
                await self._limiter.take("mails", str(by))

    async def succeeded(self, email: str) -> None:
        """Remember that the client has logged in to the account of this address."""
        if self._limiter.on:
            await self._limiter.remember(self._name(email), self._client)

    def _name(self, email: str) -> str:
        """One key for all spellings of a mailbox, which does not reveal the address to readers of
        the counters."""
        try:
            key = email_addresses.mailbox(email)
        except Invalid:
            key = email.casefold()
        return hmac.new(
            self._secret, key.encode(errors="surrogatepass"), hashlib.sha256
        ).hexdigest()


def attempts_of(request: Request, services: Services) -> Attempts:
    """The attempts of a request, none counted yet."""
    limiter: Limiter = request.app.state.limiter
    return Attempts(limiter, limiter.client(request.scope), services.secret)


async def _counted(request: Request, services: ServicesOf) -> Attempts:
    attempts = attempts_of(request, services)
    await attempts.by_client()
    return attempts


Attempt = Annotated[Attempts, Depends(_counted)]
"""One attempt by the client, counted before anything else is checked."""
