"""Commands on accounts: register, edit. Those that end them are in
`commands.accounts.account_ends`."""

from uuid import UUID

import msgspec

from commands.accounts.mail_proofs import notify_of_change
from commands.accounts.mail_tokens import MailTokens
from commands.accounts.mailboxes import Mailboxes, taken
from commands.accounts.open_accounts import must_manage
from commands.aggregates import USER
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.ports.secrets import PasswordHasher, PersonKeys
from domain import identity, passwords
from domain.errors import Invalid, Refused, Unauthorized
from domain.identity import AccountType, User
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


class Versioned(msgspec.Struct, frozen=True):
    """An account and its stream's version, which is its ETag."""

    user: User
    version: int


class AccountCommands:
    def __init__(
        self,
        handler: CommandHandler,
        keys: PersonKeys,
        hasher: PasswordHasher,
        mailboxes: Mailboxes,
        tokens: MailTokens,
    ) -> None:
        self._handler = handler
        self._keys = keys
        self._hasher = hasher
        self._mailboxes = mailboxes
        self._tokens = tokens

    # -- opening an account ------------------------------------------------------------------------

    async def register(
        self,
        caller: Caller,
        *,
        email: str,
        password: str | None,
        name: str,
        account_type: AccountType = "BUYER",
        region: str = identity.DEFAULT_REGION,
        once: IdempotencyKey | None = None,
        user_id: UUID | None = None,
    ) -> CommandResult[User]:
        """Open an account, without a session. Without a password, as in an import, nobody can log
        in until it is reset.

        Raises Conflict("email_taken"), and as `domain.identity.register` and `check_password`.
        """
        if password is not None:
            passwords.check_password(password)
        digest, user_id = self._mailboxes.digest(email), user_id or uuid7()
        if await self._mailboxes.is_held(email):
            raise taken()  # before the slow hashing of the password
        events = identity.register(
            user_id=user_id,
            account_type=account_type,
            email=email,
            name=name,
            email_digest=digest,
            password_hash="" if password is None else await self._hasher.hash(password),
            region=region,
            by_admin=caller.is_admin or caller.actor == "system",
        )

        async def decision(unit: UnitOfWork) -> User:
            unit.create(USER, user_id, events)
            await self._mailboxes.take(unit, email, user_id)
            unit.record_ids(user_id=user_id)
            return await unit.get(USER, user_id)

        await self._keys.create([user_id])
        try:
            return await self._handler.handle(decision, caller, once)
        except Refused:
            await self._keys.destroy(user_id)  # nothing was written under it
            raise

    # -- editing -----------------------------------------------------------------------------------

    async def update(
        self,
        caller: Caller,
        user_id: UUID,
        *,
        name: str | None = None,
        region: str | None = None,
        email: str | None = None,
        password: str | None = None,
        current_password: str | None = None,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[Versioned]:
        """Change the given fields. A person who changes their own password or e-mail must give the
        current password. Such a change is reported to the previous address, and ends all sessions
        except the one that requested it.

        Raises Conflict("email_taken"), Stale, Forbidden, NotFound, Invalid
        (current_password_missing among others), Unauthorized("current_password_wrong").
        """
        must_manage(caller, user_id)
        if password is not None:
            passwords.check_password(password)
        digest = None if email is None else self._mailboxes.digest(email)
        own = caller.user_id == user_id
        known_hash = (
            await self._proven_hash(user_id, current_password)
            if own and current_password is not None
            else None
        )
        password_hash = None if password is None else await self._hasher.hash(password)

        async def decision(unit: UnitOfWork) -> Versioned:
            user = await unit.get(USER, user_id)
            unit.expect(user_id, expected_version)
            changes = identity.change_profile(
                user, name=name, region=region, email=email, email_digest=digest
            )
            moves = bool(changes) and USER.fold(user, changes).email != user.email  # type: ignore[union-attr]
            if own and (moves or password_hash is not None):
                _must_be_known(user, current_password, known_hash)
            if moves and email is not None:
                await self._mailboxes.take(unit, email, user_id)
                await self._mailboxes.release(unit, user, "email changed", but=digest)
            unit.emit(user_id, changes)
            if password_hash is not None:
                unit.emit(user_id, identity.change_password(user, password_hash))
            if moves or password_hash is not None:
                unit.emit(
                    user_id, identity.end_sessions(user, but=caller.session_id if own else None)
                )
            changed = await unit.get(USER, user_id)
            if moves or password_hash is not None:
                notify_of_change(unit, self._tokens, user, changed, self._handler)
            return Versioned(changed, unit.version_after(user_id))

        return await self._handler.handle(decision, caller, once)

    async def _proven_hash(self, user_id: UUID, password: str) -> str | None:
        """The hash of the account's password, if the given password is right."""
        user = await self.get(user_id)
        return (
            user.password_hash if await self._hasher.matches(user.password_hash, password) else None
        )

    async def get(self, user_id: UUID) -> User:
        """The account as the log has it. Raises NotFound("user_not_found")."""
        return await self._handler.get(USER, user_id)


def _must_be_known(user: User, given: str | None, known_hash: str | None) -> None:
    """Raises unless the current password was given and has not changed since."""
    if given is None:
        raise Invalid(
            "current_password_missing",
            "a change of password or e-mail requires the current_password",
        )
    if known_hash is None or known_hash != user.password_hash:
        raise Unauthorized("current_password_wrong", "that is not the current password")
