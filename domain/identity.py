"""A person (or a service) with an account: who they are, how they prove it, and whether they may still act.

A mailbox has one account at most (a claim on its digest sees to that). What is personal is encrypted in the log under
the person's own key; a forgotten account keeps its place in history, and nothing that tells whose it was.
"""

import unicodedata
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from domain import email_addresses
from domain.errors import Conflict, Forbidden, Invalid, Unauthorized
from domain.events import PERSONAL, Event, PersonalText, event
from domain.regions import check_region
from domain.text import check_text, with_few_marks
from kit.forgotten import FORGOTTEN

AccountType = Literal["BUYER", "SELLER", "ADMIN", "AUDITOR", "SERVICE"]
Status = Literal["PENDING_VERIFICATION", "ACTIVE", "DEACTIVATED", "FORGOTTEN"]

OPEN_TO_ALL: frozenset[AccountType] = frozenset({"BUYER", "SELLER"})
DEFAULT_REGION = "US"
MIN_PASSWORD, MAX_PASSWORD = 10, 1024
MAX_TYPED_PASSWORD = 2 * MAX_PASSWORD
"""Characters before accents are composed; beyond that nothing is composed, for it takes longer and longer."""

MAX_NAME = 200

CASE_FOLDED, MAILBOX = 1, 2
"""What an `email_digest` is of: at first of the case-folded text, which took some mailboxes for one; then of the key of
the mailbox (`domain.email_addresses.mailbox`)."""

# -- events ------------------------------------------------------------------------------------------------------------


@event("user.registered.v1")
class UserRegistered(Event, frozen=True):
    """`email_digest` is the peppered HMAC of what `digest_of` names (1: the case-folded e-mail, 2: its mailbox);
    `password_hash` is empty for imported people."""

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
    """The person reads mail at the account's address."""


@event("user.profile_changed.v1")
class ProfileChanged(Event, frozen=True):
    """Only what changed. A new e-mail comes with its digest, and with what that is of (as `user.registered`)."""

    name: Annotated[str | None, PERSONAL] = None
    region: str | None = None
    email: Annotated[str | None, PERSONAL] = None
    email_digest: str | None = None
    digest_of: int | None = None


@event("user.email_restored.v1")
class EmailRestored(Event, frozen=True):
    """Who reads mail at a former address took the account back: it is the address again. No earlier mail can take the
    account back any more."""

    email: PersonalText
    email_digest: str


@event("user.password_changed.v1")
class PasswordChanged(Event, frozen=True):
    """The former password opens nothing any more."""

    password_hash: PersonalText


@event("user.logged_in.v1")
class LoggedIn(Event, frozen=True):
    """A session was opened with the password."""

    session_id: UUID


@event("user.logged_out.v1")
class LoggedOut(Event, frozen=True):
    """The session was ended by who opened it."""

    session_id: UUID


@event("user.sessions_ended.v1")
class SessionsEnded(Event, frozen=True):
    """All sessions that were open are over but the one that is kept, if any: what they were opened with changed."""

    kept_session_id: UUID | None = None


@event("user.refresh_reused.v1")
class RefreshReused(Event, frozen=True):
    """A spent refresh token was used again: the session is revoked."""

    session_id: UUID


@event("user.deactivated.v1")
class UserDeactivated(Event, frozen=True):
    """The account is closed."""

    reason: str | None = None


@event("user.reactivated.v1")
class UserReactivated(Event, frozen=True):
    """A closed account is open again."""

    reason: str | None = None


@event("user.forgetting_begun.v1")
class ForgettingBegun(Event, frozen=True):
    """From here on it is looked whether anything is owed. The account is in use as before."""


@event("user.forgetting_interrupted.v1")
class ForgettingInterrupted(Event, frozen=True):
    """Something was begun for the account meanwhile: it must be looked anew."""


@event("user.forgotten.v1")
class UserForgotten(Event, frozen=True):
    """The person's key is destroyed with this."""


# -- state -------------------------------------------------------------------------------------------------------------


class User(msgspec.Struct, frozen=True):
    """An account as it stands.

    `session_epoch` grows whenever all sessions end at once: one that was opened in an earlier epoch is over, unless it
    is the `kept_session_id`. So are those of a closed account. `taken_back_at` is the epoch up to which no mail takes
    the account back (any more). `forgetting`: it is looked whether it can be forgotten, and nothing was begun since.
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
        """Whether a session that was opened in this epoch still stands, for all that ends sessions together."""
        return self.may_act and (epoch >= self.session_epoch or session_id == self.kept_session_id)

    @property
    def may_act(self) -> bool:
        """Whether the account is in use; one that awaits the verification of its e-mail may do everything."""
        return self.status in {"PENDING_VERIFICATION", "ACTIVE"}


def evolve(state: User | None, event: Event) -> User | None:  # noqa: PLR0911 - one line a fact
    """The account after one more event."""
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
            changed = {field: value for field, value in msgspec.structs.asdict(event).items() if value is not None}
            if event.email_digest is not None:
                changed |= {"email_verified": False, "digest_of": event.digest_of or CASE_FOLDED}
            return msgspec.structs.replace(state, **changed)
        case User(), PasswordChanged():
            return msgspec.structs.replace(state, password_hash=event.password_hash)
        case User(), SessionsEnded():
            epoch = state.session_epoch + 1
            return msgspec.structs.replace(state, session_epoch=epoch, kept_session_id=event.kept_session_id)
        case User(), UserDeactivated():
            return msgspec.structs.replace(state, status="DEACTIVATED")
        case User(), UserReactivated():
            return msgspec.structs.replace(state, status="ACTIVE")
        case User(), ForgettingBegun() | ForgettingInterrupted():
            return msgspec.structs.replace(state, forgetting=isinstance(event, ForgettingBegun))
        case User(), UserForgotten():
            forgotten = {"email": FORGOTTEN, "name": FORGOTTEN, "password_hash": "", "email_verified": False}
            return msgspec.structs.replace(state, status="FORGOTTEN", **forgotten)
    return state


# -- rules -------------------------------------------------------------------------------------------------------------


def as_compared(password: str) -> str:
    """A password as it is hashed, however a keyboard or a phone spells it: RFC 8265's OpaqueString, which takes other
    blanks for the ASCII one and composes accents (NFC). Its control characters are let pass. One with more accents on a
    letter than any language has stays as it is typed: composing those would take the square of their number."""
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    return unicodedata.normalize("NFC", spaced) if with_few_marks(spaced) == spaced else spaced


def check_password(password: str) -> None:
    """Raises Invalid("weak_password") unless it has 10 to 1024 characters, as it is compared."""
    if len(password) > MAX_TYPED_PASSWORD or not MIN_PASSWORD <= len(as_compared(password)) <= MAX_PASSWORD:
        raise Invalid("weak_password", f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")


def check_name(name: str) -> None:
    """Raises Invalid("invalid_name") unless it has 1 to 200 characters with something to see in it."""
    check_text("name", name, MAX_NAME)


# -- decisions ---------------------------------------------------------------------------------------------------------


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
    """Open an account. Anyone may become a BUYER or a SELLER; only an ADMIN makes the others.

    Raises Forbidden("account_type_not_allowed"), Invalid("invalid_email" | "invalid_name" | "invalid_region").
    """
    if account_type not in OPEN_TO_ALL and not by_admin:
        raise Forbidden("account_type_not_allowed", f"only an ADMIN can make an account of type {account_type}")
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
    """The person proved that they read mail at the address of this digest; repeating it changes nothing.

    Raises Forbidden("user_inactive"); Invalid("invalid_token") when the account has another address by now.
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
    """Change what is given and differs. A new e-mail needs its digest, and is to be verified anew.

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
    """Replace the password by one that `check_password` let pass. Raises Forbidden("user_inactive")."""
    _must_act(user)
    return [PasswordChanged(password_hash=password_hash)]


def end_sessions(user: User, *, but: UUID | None = None) -> list[Event]:  # noqa: ARG001 - a decision takes its state
    """What the sessions were opened with changed: they are over, but the one by which that was asked for."""
    return [SessionsEnded(kept_session_id=but)]


def take_back(user: User, *, epoch: int, email: str, email_digest: str) -> list[Event]:
    """Who reads mail at an address that the account had takes it back: by a mail of this epoch, and only once.

    Raises Forbidden("user_inactive"); Invalid("invalid_token") when the account was taken back meanwhile.
    """
    _must_act(user)
    if epoch <= user.taken_back_at:
        raise Invalid("invalid_token", "the account was taken back already")
    return [EmailRestored(email=email, email_digest=email_digest)]


def log_in(user: User | None, *, password_matches: bool, session_id: UUID) -> list[Event]:
    """Open a session. An unknown e-mail, a wrong password and an account without one are refused alike.

    Raises Unauthorized("invalid_credentials"); Forbidden("user_inactive") only to who knows the password.
    """
    if user is None or not user.password_hash or not password_matches:
        raise Unauthorized("invalid_credentials", "the e-mail or the password is wrong")
    _must_act(user)
    return [LoggedIn(session_id=session_id)]


def log_out(user: User, session_id: UUID) -> list[Event]:  # noqa: ARG001 - a decision takes its state
    """End a session."""
    return [LoggedOut(session_id=session_id)]


def note_refresh_reuse(user: User, session_id: UUID) -> list[Event]:  # noqa: ARG001 - a decision takes its state
    """A spent refresh token came back: keep it on record. Revoking the session is the caller's."""
    return [RefreshReused(session_id=session_id)]


def deactivate(user: User, reason: str | None = None) -> list[Event]:
    """Close the account; closing it again changes nothing."""
    return [UserDeactivated(reason=reason)] if user.may_act else []


def begin_forgetting(user: User) -> list[Event]:
    """Mark the moment from which on nothing may have been begun for the account when it is forgotten."""
    return [ForgettingBegun()] if user.may_act and not user.forgetting else []


def interrupt_forgetting(user: User) -> list[Event]:
    """Something is begun for the account, in the same append: whoever is about to forget it must look again."""
    return [ForgettingInterrupted()] if user.forgetting else []


def forget(user: User, reason: str | None = None) -> list[Event]:
    """Close the account and forget whose it was; the caller destroys the person's key."""
    return [] if user.status == "FORGOTTEN" else [*deactivate(user, reason), UserForgotten()]


def reopen(user: User, reason: str | None = None) -> list[Event]:
    """Open a closed account again.

    Raises Conflict: account_active, account_forgotten (nobody can tell any more whose it was).
    """
    if user.status == "FORGOTTEN":
        raise Conflict("account_forgotten", "the account was forgotten: there is nobody to open it for")
    if user.may_act:
        raise Conflict("account_active", "the account is open")
    return [UserReactivated(reason=reason)]


def _must_act(user: User) -> None:
    if not user.may_act:
        raise Forbidden("user_inactive", "the account is closed")
