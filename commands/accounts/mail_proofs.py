"""Commands of people who prove that they read an account's mail: verify its address, choose a new
password, restore a former address.

Whoever changes a password or an address may be a thief, so the previous address gets a mail with a
way back.
"""

from collections.abc import Mapping
from uuid import UUID

from commands.accounts.mail_tokens import MailProof, MailTokens
from commands.accounts.mailboxes import Mailboxes
from commands.aggregates import NOTIFICATION, USER
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.ports.secrets import PasswordHasher
from domain import email_addresses, identity, notification_texts, notifications, passwords
from domain.errors import Invalid
from domain.identity import User
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


class MailProofs:
    """Commands that take mailed tokens, and the mails that contain them."""

    def __init__(
        self,
        handler: CommandHandler,
        mailboxes: Mailboxes,
        hasher: PasswordHasher,
        tokens: MailTokens,
    ) -> None:
        self._handler = handler
        self._mailboxes = mailboxes
        self._hasher = hasher
        self._tokens = tokens

    async def verify_email(
        self, caller: Caller, token: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Verify the account's address. Raises Invalid("invalid_token")."""
        proof = self._tokens.read(token, self._handler.now(), "verify-email")

        async def decision(unit: UnitOfWork) -> None:
            user = await self._fitting(unit, proof, "the token is for another e-mail address")
            unit.emit(user.user_id, identity.verify_email(user, user.email_digest))

        return await self._handler.handle(decision, caller, once)

    async def mail_verification(
        self, caller: Caller, user: User | None, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Mail another token for verifying the address. No-op when there is nothing to verify."""
        if user is None or not user.may_act or user.email_verified:
            return CommandResult(None, None)
        token = self._tokens.make("verify-email", user, self._handler.now())
        return await self._mail(caller, user, "verification", token, once)

    async def forgot_password(
        self, caller: Caller, email: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Mail a token for resetting the password, if there is such an account. The response does
        not reveal whether there is."""
        user = await self._mailboxes.find(email)
        if user is None or not user.may_act:
            return CommandResult(None, None)
        token = self._tokens.make("reset-password", user, self._handler.now())
        return await self._mail(caller, user, "password_reset", token, once)

    async def verification_again(
        self, caller: Caller, email: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """As `mail_verification`, by address."""
        return await self.mail_verification(caller, await self._mailboxes.find(email), once=once)

    async def reset_password(
        self, caller: Caller, token: str, password: str, *, once: IdempotencyKey | None = None
    ) -> CommandResult[User | None]:
        """Set a password with a mailed token, which works once, and end all sessions. A token
        mailed to a former address also restores that address. Raises Invalid,
        Conflict("email_taken")."""
        passwords.check_password(password)
        proof = self._tokens.read(token, self._handler.now(), "reset-password", "take-back")
        password_hash = await self._hasher.hash(password)

        async def decision(unit: UnitOfWork) -> User | None:
            user = await self._fitting(
                unit, proof, "the token was already used, or the account has changed"
            )
            if proof.purpose == "take-back":
                await self._bring_back(unit, user, proof)
            unit.emit(user.user_id, identity.change_password(user, password_hash))
            unit.emit(user.user_id, identity.end_sessions(user))
            changed = await unit.get(USER, user.user_id)
            notify_of_change(unit, self._tokens, changed, changed, self._handler)
            return changed

        return await self._handler.handle(decision, caller, once)

    async def _bring_back(self, unit: UnitOfWork, user: User, proof: MailProof) -> None:
        digest = self._mailboxes.digest(proof.email)
        restored = identity.restore_email(
            user, epoch=proof.epoch, email=proof.email, email_digest=digest
        )
        await self._mailboxes.take(unit, proof.email, user.user_id)
        await self._mailboxes.release(unit, user, "taken back", but=digest)
        unit.emit(user.user_id, restored)

    async def _fitting(self, unit: UnitOfWork, proof: MailProof, otherwise: str) -> User:
        user = await unit.load(USER, proof.user_id)
        if user is None or not proof.fits(user):
            raise Invalid("invalid_token", otherwise)
        return user

    async def _mail(
        self, caller: Caller, user: User, template: str, token: str, once: IdempotencyKey | None
    ) -> CommandResult[None]:
        async def decision(unit: UnitOfWork) -> None:
            request_mail(unit, user, template, {"token": token}, to=user.email)

        return await self._handler.handle(decision, caller, once)


def notify_of_change(
    unit: UnitOfWork, tokens: MailTokens, before: User, after: User, handler: CommandHandler
) -> None:
    """Tell the previous address that the account's password or address was changed. The mail has a
    token: to choose another password or, after a new address, to restore the previous one."""
    now = handler.now()
    if before.email != after.email:
        token = tokens.make_restore_token(after, before.email, now)
        request_mail(unit, before, "email_changed", {"token": token}, to=before.email)
    else:
        token = tokens.make("reset-password", after, now)
        request_mail(unit, before, "password_changed", {"token": token}, to=before.email)


def request_mail(
    unit: UnitOfWork, user: User, template: str, params: Mapping[str, str], *, to: str
) -> None:
    """Request a mail to exactly this address, even if the account has another one when it is sent:
    its token proves who reads mail there."""
    if email_addresses.is_unreachable(to):
        return
    notification_id: UUID = uuid7()
    wanted = notifications.request(
        None,
        user_id=user.user_id,
        channel="email",
        template=template,
        cause_event_id=notification_id,
        params={"name": user.name, notification_texts.ADDRESS: to, **params},
    )
    unit.create(NOTIFICATION, notification_id, wanted)
