"""Mailboxes: each has at most one account, however its address is spelled.

The claim on a mailbox is found by a digest of its key. Accounts of the first releases are found by
a digest of the case-folded text instead (`domain.identity.CASE_FOLDED`). So a login looks for both,
and a reactor claims the mailboxes of those accounts, to keep them from a second account.
"""

import hashlib
import hmac
from contextlib import suppress
from uuid import UUID

from commands.aggregates import CLAIM, USER
from commands.handler import CommandHandler
from commands.reactors.reactor import Reactor, caused, once_for
from domain import claims, email_addresses
from domain.claims import ReleaseReason
from domain.errors import Conflict, Invalid
from domain.identity import CASE_FOLDED, ProfileChanged, User, UserRegistered
from domain.ids import claim_id
from eventstore.log import Envelope
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork


class Mailboxes:
    """Finds accounts by e-mail, and claims mailboxes. `pepper` is the key of the digests, and is
    never rotated."""

    def __init__(self, repository: Repository, pepper: bytes) -> None:
        self._repository = repository
        self._pepper = pepper

    def digest(self, email: str) -> str:
        """The HMAC-SHA256 of the mailbox's key; reveals nothing without the pepper. Raises
        Invalid("invalid_email")."""
        return self._hmac(email_addresses.mailbox(email))

    def name(self, email: str) -> str:
        """A digest of any text, even of an invalid address. The same for all spellings of a
        mailbox."""
        try:
            return self.digest(email)
        except Invalid:
            return self._case_folded(email)

    async def holders(self, email: str) -> list[User | None]:
        """The accounts that an address may belong to, the likeliest first, with None for each that
        does not exist.

        The length of the list depends only on the address, so the time for trying all reveals
        nothing.
        """
        names = [self.name(email)]
        found = [await self._holder(names[0])]
        if (folded := self._case_folded(email)) not in names:
            old = await self._holder(folded)
            found.append(
                old
                if old is not None and old.digest_of == CASE_FOLDED and old not in found
                else None
            )
        return found

    async def find(self, email: str) -> User | None:
        """The account of an address."""
        return next((user for user in await self.holders(email) if user is not None), None)

    async def is_held(self, email: str) -> bool:
        """Whether the mailbox seems to have an account; only `take` is certain. Raises
        Invalid("invalid_email")."""
        return await self._holder(self.digest(email)) is not None

    async def take(self, unit: UnitOfWork, email: str, user_id: UUID) -> None:
        """Claim the mailbox for an account. Idempotent. Raises Conflict("email_taken")."""
        digest = self.digest(email)
        claim = await unit.load(CLAIM, claim_id("email", digest))
        if claim is None or not claim.held or claim.holder_id != user_id:
            unit.emit(claim_id("email", digest), claims.take(claim, "email", user_id, taken()))
        # an old account's mailbox may not be claimed yet
        if (folded := self._case_folded(email)) != digest:
            old = await unit.load(CLAIM, claim_id("email", folded))
            holder = await unit.load(USER, old.holder_id) if old is not None and old.held else None
            if holder is not None and holder.user_id != user_id and self._is_of(holder, digest):
                raise taken()

    async def release(
        self, unit: UnitOfWork, user: User, reason: ReleaseReason, *, but: str | None = None
    ) -> None:
        """Release the account's mailbox claims, except one that it keeps."""
        for digest in {user.email_digest, self.name(user.email)} - {but}:
            claim = claim_id("email", digest)
            unit.emit(claim, claims.release(await unit.load(CLAIM, claim), user.user_id, reason))

    async def _holder(self, digest: str) -> User | None:
        claim = await self._repository.state(CLAIM, claim_id("email", digest))
        return (
            await self._repository.state(USER, claim.holder_id)
            if claim is not None and claim.held
            else None
        )

    def _is_of(self, user: User, digest: str) -> bool:
        return user.digest_of == CASE_FOLDED and self.name(user.email) == digest

    def _case_folded(self, email: str) -> str:
        return self._hmac(email.strip().casefold())

    def _hmac(self, key: str) -> str:
        return hmac.new(
            self._pepper, key.encode(errors="surrogatepass"), hashlib.sha256
        ).hexdigest()


def taken() -> Conflict:
    """The refusal of a second account for a mailbox."""
    return Conflict("email_taken", "an account with this e-mail already exists")


def mailboxes_claimed(handler: CommandHandler, mailboxes: Mailboxes) -> Reactor:
    """Claims the mailboxes of accounts that are only known by the digest of their case-folded
    e-mail.

    If two such accounts share a mailbox, the older one gets it. The other is still found by its own
    spelling.
    """
    name = "mailboxes_claimed"

    async def claim(user_id: UUID, env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            user = await unit.load(USER, user_id)
            if user is not None and user.digest_of == CASE_FOLDED and user.status != "FORGOTTEN":
                with suppress(Conflict, Invalid):  # taken, or no mailbox at all
                    await mailboxes.take(unit, user.email, user_id)

        await handler.handle(decision, caused(name, env), once_for(name, env))

    async def registered(event: UserRegistered, env: Envelope) -> None:
        if event.digest_of == CASE_FOLDED and mailboxes.name(event.email) != event.email_digest:
            await claim(env.stream_id, env)

    async def moved(event: ProfileChanged, env: Envelope) -> None:
        old = event.email_digest is not None and event.digest_of is None
        if old and mailboxes.name(event.email or "") != event.email_digest:
            await claim(env.stream_id, env)

    return Reactor(name, {UserRegistered: registered, ProfileChanged: moved}, writes=(CLAIM,))
