"""Commands on login sessions: open with a password, continue with refresh tokens, end."""

import hashlib
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID, uuid5

import msgspec

from commands.accounts.mailboxes import Mailboxes
from commands.aggregates import USER
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.ports.secrets import PasswordHasher
from commands.ports.sessions import Session, Sessions
from domain import identity
from domain.errors import Forbidden, Unauthorized
from domain.identity import AccountType, User
from eventstore.log import AlreadyDone, IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7

SESSION_LIFETIME = timedelta(days=30)


class Login(msgspec.Struct, frozen=True):
    """An open session, for which the gateway mints tokens. `epoch` is the account's session epoch
    at the login."""

    user: User
    session_id: UUID
    generation: int
    expires_at: datetime
    epoch: int


class Logins:
    """Commands on sessions."""

    def __init__(
        self,
        handler: CommandHandler,
        mailboxes: Mailboxes,
        hasher: PasswordHasher,
        sessions: Sessions,
    ) -> None:
        self._handler = handler
        self._mailboxes = mailboxes
        self._hasher = hasher
        self._sessions = sessions

    async def log_in(
        self,
        caller: Caller,
        *,
        email: str,
        password: str,
        only: AccountType | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[Login]:
        """Open a session; with `only`, for accounts of that type.

        Raises Unauthorized("invalid_credentials") alike for an unknown e-mail;
        Forbidden("user_inactive" | "role_required") only if the password is right.
        """
        proven = await self._proven_by(email, password)
        user_id, session_id = proven.user_id, uuid7()

        async def decision(unit: UnitOfWork) -> User:
            found = await unit.load(USER, user_id)
            if found is None:
                raise _wrong()
            same = found.password_hash == proven.password_hash  # otherwise it was changed meanwhile
            opened = identity.log_in(found, password_matches=same, session_id=session_id)
            if only is not None and found.account_type != only:
                raise Forbidden("role_required", f"this requires the role {only}")
            unit.emit(user_id, opened)
            unit.record_ids(user_id=user_id, session_id=session_id)
            return found

        as_user = msgspec.structs.replace(caller, actor=f"user:{user_id}", user_id=user_id)
        result = await self._handler.handle(decision, as_user, once)
        return CommandResult(await self.open(result.value, session_id), result.position)

    async def again(self, user_id: UUID, session_id: UUID, password: str) -> Login:
        """The session that an earlier login opened, for a repeat of the request. Raises as
        `proven`; Unauthorized("invalid_token")."""
        user = await self.proven(user_id, password)
        session = await self._sessions.find(session_id)
        if session is None:  # the process died between the event and the session
            return await self.open(user, session_id)
        if not self._lasts(session, user):
            raise _over()
        return Login(user, session_id, session.generation, session.expires_at, session.epoch)

    async def proven(self, user_id: UUID, password: str) -> User:
        """The account, if the password is its current one.

        Raises Unauthorized("invalid_credentials"); Forbidden("user_inactive"); NotFound.
        """
        user = await self._handler.get(USER, user_id)
        if not await self._hasher.matches(user.password_hash, password):
            raise _wrong()
        if not user.may_act:
            raise Forbidden("user_inactive", "the account is closed")
        return user

    async def is_password_of(self, email: str, password: str) -> bool:
        """Whether an account with this e-mail has this password."""
        try:
            await self._proven_by(email, password)
        except Unauthorized:
            return False
        return True

    async def open(self, user: User, session_id: UUID | None = None) -> Login:
        """Open a session for an account whose owner has proved their identity."""
        expires_at = self._handler.now() + SESSION_LIFETIME
        session = Session(session_id or uuid7(), user.user_id, 0, expires_at, user.session_epoch)
        await self._sessions.open(session)
        return Login(user, session.session_id, 0, expires_at, session.epoch)

    async def refresh(
        self, caller: Caller, session_id: UUID, generation: int, key: str | None = None
    ) -> CommandResult[Login]:
        """Spend a refresh token; reusing a spent one revokes the session, except under the same
        `key`: then it is the same request, whose answer was lost or whose client has two windows.
        Raises Unauthorized: refresh_reused, invalid_token, user_inactive."""
        under = None if key is None else hashlib.sha256(key.encode()).digest()
        session = await self._sessions.find(session_id)
        if session is None or session.expires_at <= self._handler.now():
            raise _over()
        user = await self._handler.get(USER, session.user_id)
        if generation == session.generation and not self._lasts(session, user):
            raise _over()
        if not await self._sessions.advance(
            session_id, generation, under
        ) and not await self._was_spent_under(session_id, generation, under):
            if not session.revoked:
                await self._note_reuse(caller, session)
                await self._sessions.revoke(session_id)
            raise Unauthorized(
                "refresh_reused", "this refresh token was already used: the session is closed"
            )
        if not user.may_act:
            raise Unauthorized("user_inactive", "the account is closed")
        return CommandResult(
            Login(user, session_id, generation + 1, session.expires_at, session.epoch), None
        )

    async def _was_spent_under(
        self, session_id: UUID, generation: int, under: bytes | None
    ) -> bool:
        """Whether this generation, the last one spent, was spent under this key."""
        session = await self._sessions.find(session_id)
        return (
            session is not None
            and not session.revoked
            and session.generation == generation + 1
            and under is not None
            and session.spent_under == under
        )

    async def sessions_of(self, user_id: UUID) -> list[Session]:
        """An account's sessions that have not expired, including ended ones."""
        return await self._sessions.of_user(user_id)

    async def log_out(self, caller: Caller, session_id: UUID) -> CommandResult[None]:
        """End one of the caller's sessions."""
        user_id = caller.person()
        await self._sessions.revoke(session_id)

        async def decision(unit: UnitOfWork) -> None:
            user = await unit.get(USER, user_id)
            unit.emit(user_id, identity.log_out(user, session_id))

        return await self._handler.handle(decision, caller)

    async def _note_reuse(self, caller: Caller, session: Session) -> None:
        """Record the reuse, once per session."""

        async def decision(unit: UnitOfWork) -> None:
            user = await unit.get(USER, session.user_id)
            unit.emit(session.user_id, identity.note_refresh_reuse(user, session.session_id))

        with suppress(AlreadyDone):
            once = IdempotencyKey(
                uuid5(session.session_id, "refresh_reused"), expires_at=session.expires_at
            )
            await self._handler.handle(decision, caller, once)

    async def _proven_by(self, email: str, password: str) -> User:
        """The account with this e-mail and password. Takes the same time without one. Raises
        Unauthorized("invalid_credentials")."""
        holders = await self._mailboxes.holders(email)
        right = [
            user
            for user in holders
            if await self._hasher.matches(user.password_hash if user is not None else "", password)
            and user is not None
        ]
        if not right:
            raise _wrong()
        return right[0]

    def _lasts(self, session: Session, user: User) -> bool:
        in_time = session.expires_at > self._handler.now()
        return in_time and not session.revoked and user.keeps(session.session_id, session.epoch)


def _wrong() -> Unauthorized:
    return Unauthorized("invalid_credentials", "the e-mail or the password is wrong")


def _over() -> Unauthorized:
    return Unauthorized("invalid_token", "the session has ended")
