"""What may change about accounts: register, log in and out, verify, reset, edit.

How they end is in `commands.account_ends`.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from commands.aggregates import CLAIM, NOTICE, USER
from commands.bus import Caller, CommandBus, Landed
from commands.mail_tokens import MailTokens
from commands.ports import PasswordHasher, PersonKeys, Session, Sessions
from domain import claims, identity, notices
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Refused, Stale, Unauthorized
from domain.identity import AccountType, User
from domain.ids import claim_id
from eventstore.log import Once
from eventstore.repository import Unit
from eventstore.uuid7 import uuid7

SESSION_LIFETIME = timedelta(days=30)


class Login(msgspec.Struct, frozen=True):
    """An open session, from which the gateway mints tokens."""

    user: User
    session_id: UUID
    generation: int
    expires_at: datetime


class Versioned(msgspec.Struct, frozen=True):
    """An account and its stream's version (the ETag)."""

    user: User
    version: int


class Accounts:
    """Commands on accounts. `pepper` keys the digest by which e-mails are found; it is never rotated."""

    def __init__(
        self,
        bus: CommandBus,
        keys: PersonKeys,
        hasher: PasswordHasher,
        sessions: Sessions,
        tokens: MailTokens,
        pepper: bytes,
    ) -> None:
        self._bus, self._keys, self._hasher = bus, keys, hasher
        self._sessions, self._tokens, self._pepper = sessions, tokens, pepper

    def email_digest(self, email: str) -> str:
        """HMAC-SHA256 of the normalised e-mail: equal for equal addresses, and tells nothing without the pepper."""
        return hmac.new(self._pepper, identity.normalize_email(email).encode(), hashlib.sha256).hexdigest()

    # -- opening an account --------------------------------------------------------------------------------------------

    async def register(
        self,
        caller: Caller,
        *,
        email: str,
        password: str | None,
        name: str,
        account_type: AccountType = "BUYER",
        region: str = identity.DEFAULT_REGION,
        once: Once | None = None,
        user_id: UUID | None = None,
    ) -> Landed[User]:
        """Open an account, without a session. Without a password (an import) nobody can log in until it is reset.

        Raises Conflict("email_taken"), and as `domain.identity.register` and `check_password`.
        """
        if password is not None:
            identity.check_password(password)
        digest, user_id = self.email_digest(email), user_id or uuid7()
        claim = claim_id("email", digest)
        taken = Conflict("email_taken", "there is an account with this e-mail already")
        claims.take(await self._bus.repository.state(CLAIM, claim), "email", user_id, taken)
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

        async def decision(unit: Unit) -> None:
            unit.create(USER, user_id, events)
            unit.emit(claim, claims.take(await unit.load(CLAIM, claim), "email", user_id, taken))
            unit.refer(user_id=user_id)

        await self._keys.create([user_id])
        try:
            landed = await self._bus.run(decision, caller, once)
        except Refused:
            await self._keys.destroy(user_id)  # nothing was written under it
            raise
        user = USER.fold(None, events)
        assert user is not None
        return Landed(user, landed.position)

    # -- sessions ------------------------------------------------------------------------------------------------------

    async def log_in(
        self,
        caller: Caller,
        *,
        email: str,
        password: str,
        only: AccountType | None = None,
        once: Once | None = None,
    ) -> Landed[Login]:
        """Open a session; with `only`, for accounts of that type.

        Raises Unauthorized("invalid_credentials") alike for an unknown e-mail; Forbidden("user_inactive" |
        "role_required") only to who knows the password.
        """
        claim = await self._bus.repository.state(CLAIM, claim_id("email", self.email_digest(email)))
        user_id = claim.holder_id if claim is not None and claim.held else None
        user = None if user_id is None else await self._bus.repository.state(USER, user_id)
        matches = await self._hasher.matches(user.password_hash if user else "", password)
        session_id = uuid7()
        if user is None or not matches:
            identity.log_in(None, password_matches=False, session_id=session_id)

        async def decision(unit: Unit) -> User:
            found = await unit.load(USER, _known(user_id))
            opened = identity.log_in(found, password_matches=True, session_id=session_id)
            assert found is not None
            if only is not None and found.account_type != only:
                raise Forbidden("role_required", f"this needs the role {only}")
            unit.emit(found.user_id, opened)
            unit.refer(user_id=found.user_id, session_id=session_id)
            return found

        as_user = msgspec.structs.replace(caller, actor=f"user:{user_id}", user_id=user_id)
        landed = await self._bus.run(decision, as_user, once)
        return Landed(await self.open_session(landed.value, session_id), landed.position)

    async def login_again(self, user_id: UUID, session_id: UUID, password: str) -> Login:
        """The session that a login opened, for a replay of it. Raises as `proven`; Unauthorized("invalid_token")."""
        user = await self.proven(user_id, password)
        session = await self._sessions.find(session_id)
        if session is None:  # the login died before it could open it
            return await self.open_session(user, session_id)
        if session.revoked or session.expires_at <= self._bus.clock.now():
            raise Unauthorized("invalid_token", "the session is over")
        return Login(user, session_id, session.generation, session.expires_at)

    async def proven(self, user_id: UUID, password: str) -> User:
        """The account, for who knows its password as it is now.

        Raises Unauthorized("invalid_credentials"); Forbidden("user_inactive"); NotFound.
        """
        user = await self._user(user_id)
        if not await self._hasher.matches(user.password_hash, password):
            raise Unauthorized("invalid_credentials", "the e-mail or the password is wrong")
        if not user.may_act:
            raise Forbidden("user_inactive", "the account is closed")
        return user

    async def open_session(self, user: User, session_id: UUID | None = None) -> Login:
        """Open a session for an account whose owner has proved who they are."""
        expires_at = self._bus.clock.now() + SESSION_LIFETIME
        session = Session(session_id or uuid7(), user.user_id, 0, expires_at)
        await self._sessions.open(session)
        return Login(user, session.session_id, 0, expires_at)

    async def refresh(self, caller: Caller, session_id: UUID, generation: int) -> Landed[Login]:
        """Spend a refresh token; a spent one revokes the session. Raises refresh_reused, invalid_token."""
        session = await self._sessions.find(session_id)
        if session is None or session.expires_at <= self._bus.clock.now():
            raise Unauthorized("invalid_token", "the session is over")
        user = await self._user(session.user_id)
        if session.revoked and generation == session.generation:
            raise Unauthorized("invalid_token", "the session is over")
        if not await self._sessions.advance(session_id, generation):
            await self._sessions.revoke(session_id)
            await self._note_reuse(caller, session)
            raise Unauthorized("refresh_reused", "this refresh token was spent: the session is closed")
        if not user.may_act:
            raise Unauthorized("user_inactive", "the account is closed")
        return Landed(Login(user, session_id, generation + 1, session.expires_at), None)

    async def _note_reuse(self, caller: Caller, session: Session) -> None:
        async def decision(unit: Unit) -> None:
            user = await unit.load(USER, session.user_id)
            assert user is not None
            unit.emit(session.user_id, identity.note_refresh_reuse(user, session.session_id))

        await self._bus.run(decision, caller)

    async def log_out(self, session_id: UUID) -> None:
        """End a session."""
        await self._sessions.revoke(session_id)

    # -- proofs by mail ------------------------------------------------------------------------------------------------

    async def verify_email(self, caller: Caller, token: str, *, once: Once | None = None) -> Landed[None]:
        """Raises Invalid("invalid_token")."""
        user_id, bound = self._tokens.read("verify-email", token, self._bus.clock.now())

        async def decision(unit: Unit) -> None:
            user = await unit.load(USER, user_id)
            if user is None or not self._tokens.fits(bound, user.email_digest):
                raise Invalid("invalid_token", "the token is for another e-mail address")
            unit.emit(user_id, identity.verify_email(user, user.email_digest))

        return await self._bus.run(decision, caller, once)

    async def forgot_password(self, caller: Caller, email: str, *, once: Once | None = None) -> Landed[None]:
        """Mail a token to reset the password, if there is such an account; the answer tells nobody whether there is."""
        claim = await self._bus.repository.state(CLAIM, claim_id("email", self.email_digest(email)))
        user = await self._bus.repository.state(USER, claim.holder_id) if claim is not None and claim.held else None
        if user is None or not user.may_act:
            return Landed(None, None)
        token = self._tokens.make("reset-password", user.user_id, user.password_hash, self._bus.clock.now())
        notice_id = uuid7()

        async def decision(unit: Unit) -> None:
            params = {"name": user.name, "token": token}
            unit.create(
                NOTICE,
                notice_id,
                notices.request(
                    None,
                    user_id=user.user_id,
                    channel="email",
                    template="password_reset",
                    cause_event_id=notice_id,
                    params=params,
                ),
            )

        return await self._bus.run(decision, caller, once)

    async def reset_password(
        self, caller: Caller, token: str, password: str, *, once: Once | None = None
    ) -> Landed[None]:
        """Set a password by a mailed token, which works once; ends all sessions. Raises Invalid."""
        identity.check_password(password)
        user_id, bound = self._tokens.read("reset-password", token, self._bus.clock.now())
        password_hash = await self._hasher.hash(password)

        async def decision(unit: Unit) -> None:
            user = await unit.load(USER, user_id)
            if user is None or not self._tokens.fits(bound, user.password_hash):
                raise Invalid("invalid_token", "the token was used already")
            unit.emit(user_id, identity.change_password(user, password_hash))

        landed = await self._bus.run(decision, caller, once)
        await self._sessions.revoke_all(user_id)
        return landed

    # -- editing --------------------------------------------------------------------------------------------

    async def update(
        self,
        caller: Caller,
        user_id: UUID,
        *,
        name: str | None = None,
        region: str | None = None,
        email: str | None = None,
        password: str | None = None,
        expected_version: int | None = None,
        once: Once | None = None,
    ) -> Landed[Versioned]:
        """Change what is given. A new password ends all sessions, the caller's too: whoever knew the old one is out
        once their access token is (15 minutes), and the person logs in anew.

        Raises Conflict("email_taken"), Stale, Forbidden, NotFound, Invalid.
        """
        self._must_be_allowed(caller, user_id)
        if password is not None:
            identity.check_password(password)
        password_hash = None if password is None else await self._hasher.hash(password)
        digest = None if email is None else self.email_digest(email)

        async def decision(unit: Unit) -> Versioned:
            user = await self._at_version(unit, user_id, expected_version)
            if digest is not None and digest != user.email_digest:
                taken = Conflict("email_taken", "there is an account with this e-mail already")
                claim = claim_id("email", digest)
                unit.emit(claim, claims.take(await unit.load(CLAIM, claim), "email", user_id, taken))
                old = claim_id("email", user.email_digest)
                unit.emit(old, claims.release(await unit.load(CLAIM, old), user_id, "email changed"))
            unit.emit(
                user_id,
                identity.change_profile(user, name=name, region=region, email=email, email_digest=digest),
            )
            if password_hash is not None:
                unit.emit(user_id, identity.change_password(user, password_hash))
            changed = await unit.load(USER, user_id)
            assert changed is not None
            return Versioned(changed, unit.version_after(user_id))

        landed = await self._bus.run(decision, caller, once)
        if password is not None:
            await self._sessions.revoke_all(user_id)
        return landed

    async def _at_version(self, unit: Unit, user_id: UUID, expected: int | None) -> User:
        user = await unit.load(USER, user_id)
        if user is None:
            raise NotFound("user_not_found", "there is no such account")
        if expected is not None and unit.version(user_id) != expected:
            raise Stale("version_mismatch", "the account was changed meanwhile", version=unit.version(user_id))
        return user

    async def _user(self, user_id: UUID) -> User:
        user = await self._bus.repository.state(USER, user_id)
        if user is None:
            raise NotFound("user_not_found", "there is no such account")
        return user

    def _must_be_allowed(self, caller: Caller, user_id: UUID) -> None:
        if not caller.may_act_for(user_id) and caller.actor != "system":
            raise Forbidden("not_yours", "that is another person's account")


def _known(user_id: UUID | None) -> UUID:
    if user_id is None:
        raise Unauthorized("invalid_credentials", "the e-mail or the password is wrong")
    return user_id
