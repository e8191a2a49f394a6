"""The account of a person or a service: who they are, how they prove it, and whether they may act.

A mailbox has at most one account (by a claim on its digest). Personal fields are encrypted in the
log under the person's own key. A forgotten account keeps its place in history, without anything
that identifies the person.
"""

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from domain import email_addresses
from domain.errors import Conflict, Forbidden, Invalid, Unauthorized
from domain.events import PERSONAL, Event, PersonalText, event
from domain.regions import check_region
from domain.text import check_text
from kit.forgotten import FORGOTTEN

AccountType = Literal["BUYER", "SELLER", "ADMIN", "AUDITOR", "SERVICE"]
Status = Literal["PENDING_VERIFICATION", "ACTIVE", "DEACTIVATED", "FORGOTTEN"]

OPEN_TO_ALL: frozenset[AccountType] = frozenset({"BUYER", "SELLER"})
DEFAULT_REGION = "US"
MAX_NAME = 200

CASE_FOLDED, MAILBOX = 1, 2
"""What an `email_digest` is of: originally the case-folded text, which confused some mailboxes; now
the mailbox key (`domain.email_addresses.mailbox`)."""

# -- events ----------------------------------------------------------------------------------------


@event("user.registered.v1")
class UserRegistered(Event, frozen=True):
    """The account was opened. `email_digest` is the peppered HMAC of what `digest_of` names (1: the
    case-folded e-mail, 2: its mailbox); `password_hash` is empty for imported people."""

    user_id: UUID
    account_type: AccountType
    region: str
    email: PersonalText
    name: PersonalText
    email_digest: str
    password_hash: PersonalText
    digest_of: int = CASE_FOLDED


@event("user.email_verified.v1")
class EmailVerified(Event, frozen=True):
    """The person proved that they read mail at the account's address."""


@event("user.profile_changed.v1")
class ProfileChanged(Event, frozen=True):
    """The profile was edited; only changed fields are present. A new `email` comes with its
    `email_digest` and `digest_of` (see `user.registered.v1`)."""

    name: Annotated[str | None, PERSONAL] = None
    region: str | None = None
    email: Annotated[str | None, PERSONAL] = None
    email_digest: str | None = None
    digest_of: int | None = None


@event("user.email_restored.v1")
class EmailRestored(Event, frozen=True):
    """The reader of a former address took the account back, and `email` is its address again.
    Take-back mails sent earlier no longer work."""

    email: PersonalText
    email_digest: str


@event("user.password_changed.v1")
class PasswordChanged(Event, frozen=True):
    """The password was replaced."""

    password_hash: PersonalText


@event("user.logged_in.v1")
class LoggedIn(Event, frozen=True):
    """The person opened a session with their password."""

    session_id: UUID


@event("user.logged_out.v1")
class LoggedOut(Event, frozen=True):
    """The person ended the session."""

    session_id: UUID


@event("user.sessions_ended.v1")
class SessionsEnded(Event, frozen=True):
    """The credentials changed, so all open sessions ended except `kept_session_id`, if any."""

    kept_session_id: UUID | None = None


@event("user.refresh_reused.v1")
class RefreshReused(Event, frozen=True):
    """A spent refresh token was used again, so the session was revoked."""

    session_id: UUID


@event("user.deactivated.v1")
class UserDeactivated(Event, frozen=True):
    """The account was closed."""

    reason: str | None = None


@event("user.reactivated.v1")
class UserReactivated(Event, frozen=True):
    """The closed account was opened again."""

    reason: str | None = None


@event("user.forgetting_begun.v1")
class ForgettingBegun(Event, frozen=True):
    """A check began whether the account still has obligations and can be forgotten. The account
    stays in use."""


@event("user.forgetting_interrupted.v1")
class ForgettingInterrupted(Event, frozen=True):
    """Something new was started for the account during the check, which must be repeated."""


@event("user.forgotten.v1")
class UserForgotten(Event, frozen=True):
    """The person was forgotten: their key was destroyed with this event."""


# -- state -----------------------------------------------------------------------------------------


class User(msgspec.Struct, frozen=True):
    """The state of an account.

    `session_epoch` grows whenever all sessions end at once: a session from an earlier epoch is over
    unless it is the `kept_session_id`. All sessions of a closed account are over. `taken_back_at`
    is the epoch up to which no mail can take the account back. `forgetting` is true from the start
    of the check for obligations until something new is started.
    """

    user_id: UUID
    account_type: AccountType
    region: str
    email: str
    name: str
    email_digest: str
    password_hash: str
    digest_of: int = CASE_FOLDED
    status: Status = "PENDING_VERIFICATION"
    email_verified: bool = False
    session_epoch: int = 0
    kept_session_id: UUID | None = None
    taken_back_at: int = 0
    forgetting: bool = False

    def keeps(self, session_id: UUID, epoch: int) -> bool:
        """Whether a session opened in this epoch has survived every event that ends sessions
        together."""
        return self.may_act and (epoch >= self.session_epoch or session_id == self.kept_session_id)

    @property
    def may_act(self) -> bool:
        """Whether the account is in use; one whose e-mail is not verified yet may do everything."""
        return self.status in {"PENDING_VERIFICATION", "ACTIVE"}


def evolve(state: User | None, event: Event) -> User | None:  # noqa: PLR0911 - one line a fact
    match state, event:
        case _, UserRegistered():
            return User(**msgspec.structs.asdict(event))
        case User(), EmailVerified():
            return msgspec.structs.replace(state, email_verified=True, status="ACTIVE")
        case User(), EmailRestored():
            return msgspec.structs.replace(
                state,
                email=event.email,
                email_digest=event.email_digest,
                digest_of=MAILBOX,
                email_verified=True,
                status="ACTIVE",
                taken_back_at=state.session_epoch,
            )
        case User(), ProfileChanged():
            changed = {
                field: value
                for field, value in msgspec.structs.asdict(event).items()
                if value is not None
            }
            if event.email_digest is not None:
                changed |= {"email_verified": False, "digest_of": event.digest_of or CASE_FOLDED}
            return msgspec.structs.replace(state, **changed)
        case User(), PasswordChanged():
            return msgspec.structs.replace(state, password_hash=event.password_hash)
        case User(), SessionsEnded():
            epoch = state.session_epoch + 1
            return msgspec.structs.replace(
                state, session_epoch=epoch, kept_session_id=event.kept_session_id
            )
        case User(), UserDeactivated():
            return msgspec.structs.replace(state, status="DEACTIVATED")
        case User(), UserReactivated():
            return msgspec.structs.replace(state, status="ACTIVE")
        case User(), ForgettingBegun() | ForgettingInterrupted():
            return msgspec.structs.replace(state, forgetting=isinstance(event, ForgettingBegun))
        case User(), UserForgotten():
            forgotten = {
                "email": FORGOTTEN,
                "name": FORGOTTEN,
                "password_hash": "",
                "email_verified": False,
            }
            return msgspec.structs.replace(state, status="FORGOTTEN", **forgotten)
    return state


# -- rules -----------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raises Invalid("invalid_name") unless the name has 1 to 200
    characters, some of them visible."""
    check_text("name", name, MAX_NAME)


# -- decisions -------------------------------------------------------------------------------------


def register(
    *,
    user_id: UUID,
    account_type: AccountType,
    email: str,
    name: str,
    email_digest: str,
    password_hash: str,
    region: str = DEFAULT_REGION,
    by_admin: bool = False,
) -> list[Event]:
    """Open an account. Anyone may become a BUYER or a SELLER; only an ADMIN creates the other
    types.

    Raises Forbidden("account_type_not_allowed"), Invalid("invalid_email" | "invalid_name" |
    "invalid_region").
    """
    if account_type not in OPEN_TO_ALL and not by_admin:
        raise Forbidden(
            "account_type_not_allowed",
            f"only an ADMIN can create an account of type {account_type}",
        )
    email = email_addresses.as_kept(email)
    check_name(name)
    check_region(region)
    return [
        UserRegistered(
            user_id=user_id,
            account_type=account_type,
            region=region,
            email=email,
            name=name,
            email_digest=email_digest,
            password_hash=password_hash,
            digest_of=MAILBOX,
        )
    ]


def verify_email(user: User, email_digest: str) -> list[Event]:
    """Mark the address with this digest as verified. Idempotent.

    Raises Forbidden("user_inactive"); Invalid("invalid_token") when the account has another address
    by now.
    """
    _must_act(user)
    if email_digest != user.email_digest:
        raise Invalid("invalid_token", "the token is for another e-mail address")
    return [] if user.email_verified else [EmailVerified()]


def change_profile(
    user: User,
    *,
    name: str | None = None,
    region: str | None = None,
    email: str | None = None,
    email_digest: str | None = None,
) -> list[Event]:
    """Change the given fields that differ. A new e-mail needs its digest, and must be verified
    again.

    Raises Forbidden("user_inactive"), Invalid("invalid_email" | "invalid_name" | "invalid_region").
    """
    _must_act(user)
    if name is not None:
        check_name(name)
    if region is not None:
        check_region(region)
    if email is not None:
        email = email_addresses.as_kept(email)
        if email_digest is None:
            raise ValueError("a new e-mail comes with its digest")
    moved = email is not None and email != user.email
    change = ProfileChanged(
        name=name if name != user.name else None,
        region=region if region != user.region else None,
        email=email if moved else None,
        email_digest=email_digest if moved else None,
        digest_of=MAILBOX if moved else None,
    )
    return [] if change == ProfileChanged() else [change]


def change_password(user: User, password_hash: str) -> list[Event]:
    """Replace the password; the caller has checked it with `passwords.check_password`. Raises
    Forbidden("user_inactive")."""
    _must_act(user)
    return [PasswordChanged(password_hash=password_hash)]


def end_sessions(user: User, *, but: UUID | None = None) -> list[Event]:  # noqa: ARG001 - a decision takes its state
    """End all sessions, as the credentials changed, except `but`: the one that asked for the
    change."""
    return [SessionsEnded(kept_session_id=but)]


def restore_email(user: User, *, epoch: int, email: str, email_digest: str) -> list[Event]:
    """Give the account back to the reader of a former address, by a mail of this epoch; once.

    Raises Forbidden("user_inactive"); Invalid("invalid_token") when the account was taken back
    since.
    """
    _must_act(user)
    if epoch <= user.taken_back_at:
        raise Invalid("invalid_token", "the account was already taken back")
    return [EmailRestored(email=email, email_digest=email_digest)]


def log_in(user: User | None, *, password_matches: bool, session_id: UUID) -> list[Event]:
    """Open a session. An unknown e-mail, a wrong password and an account without one get the same
    refusal.

    Raises Unauthorized("invalid_credentials"); Forbidden("user_inactive") only when the password is
    right.
    """
    if user is None or not user.password_hash or not password_matches:
        raise Unauthorized("invalid_credentials", "the e-mail or the password is wrong")
    _must_act(user)
    return [LoggedIn(session_id=session_id)]


def log_out(user: User, session_id: UUID) -> list[Event]:  # noqa: ARG001 - a decision takes its state
    return [LoggedOut(session_id=session_id)]


def note_refresh_reuse(user: User, session_id: UUID) -> list[Event]:  # noqa: ARG001 - a decision takes its state
    """Record that a spent refresh token was used. The caller revokes the session."""
    return [RefreshReused(session_id=session_id)]


def deactivate(user: User, reason: str | None = None) -> list[Event]:
    """Close the account. Idempotent."""
    return [UserDeactivated(reason=reason)] if user.may_act else []


def begin_forgetting(user: User) -> list[Event]:
    """Record the start of the check for obligations: the account is forgotten only if nothing is
    started for it since."""
    return [ForgettingBegun()] if user.may_act and not user.forgetting else []


def interrupt_forgetting(user: User) -> list[Event]:
    """Make a running check for obligations start over; appended together with what is started for
    the account."""
    return [ForgettingInterrupted()] if user.forgetting else []


def forget(user: User, reason: str | None = None) -> list[Event]:
    """Close the account and forget the person; the caller destroys their key. Idempotent."""
    return [] if user.status == "FORGOTTEN" else [*deactivate(user, reason), UserForgotten()]


def reopen(user: User, reason: str | None = None) -> list[Event]:
    """Open a closed account again.

    Raises Conflict: account_active, account_forgotten (nothing identifies its person any more).
    """
    if user.status == "FORGOTTEN":
        raise Conflict("account_forgotten", "the account was forgotten, and cannot be reopened")
    if user.may_act:
        raise Conflict("account_active", "the account is not closed")
    return [UserReactivated(reason=reason)]


def _must_act(user: User) -> None:
    if not user.may_act:
        raise Forbidden("user_inactive", "the account is closed")
