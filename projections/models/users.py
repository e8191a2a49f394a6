"""Accounts, as their owners and administrators see them. Credentials are not stored here."""

from uuid import UUID

from domain.email_addresses import mailbox
from domain.errors import Invalid
from domain.events import Event
from domain.identity import (
    EmailRestored,
    EmailVerified,
    ForgettingBegun,
    ForgettingInterrupted,
    LoggedIn,
    LoggedOut,
    PasswordChanged,
    ProfileChanged,
    RefreshReused,
    SessionsEnded,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
    UserRegistered,
)
from eventstore.log import Placed
from projections.projection import Projection, Rows, StreamRow, on


class User(StreamRow):
    """An account. `email`, `mailbox` (the key to find it by) and `name` are None once the person is
    forgotten."""

    KEY = ("user_id",)
    INDEXES = (
        "created_position",
        "USING hash (mailbox)",
        "account_type, created_position",
        "status, created_position",
    )
    INTERNAL = (*StreamRow.INTERNAL, "mailbox")
    PERSONAL = ("email", "name", "mailbox")

    user_id: UUID
    email: str | None
    name: str | None
    account_type: str
    region: str
    status: str
    email_verified: bool
    mailbox: str | None = None


class Users(Projection[User]):
    """Every account by its id. A login only moves the version."""

    name, version, row = "users", 2, User

    @on(UserRegistered)
    def registered(self, rows: Rows[User], event: UserRegistered, env: Placed) -> None:
        rows.put(
            User(
                user_id=env.stream_id,
                email=event.email,
                mailbox=_mailbox(event.email),
                name=event.name,
                account_type=event.account_type,
                region=event.region,
                status="PENDING_VERIFICATION",
                email_verified=False,
            )
        )

    @on(EmailVerified)
    def email_verified(self, rows: Rows[User], _: EmailVerified, env: Placed) -> None:
        user = rows[env.stream_id]
        user.email_verified = True
        if user.status == "PENDING_VERIFICATION":
            user.status = "ACTIVE"

    @on(ProfileChanged)
    def profile_changed(self, rows: Rows[User], event: ProfileChanged, env: Placed) -> None:
        user = rows[env.stream_id]
        if event.name is not None:
            user.name = event.name
        if event.region is not None:
            user.region = event.region
        if event.email is not None:
            user.email = event.email
            user.mailbox = _mailbox(event.email)
        # present even when the e-mail itself can no longer be read
        if event.email_digest is not None:
            user.email_verified = False

    @on(UserDeactivated)
    def deactivated(self, rows: Rows[User], _: UserDeactivated, env: Placed) -> None:
        rows[env.stream_id].status = "DEACTIVATED"

    @on(UserReactivated)
    def reactivated(self, rows: Rows[User], _: UserReactivated, env: Placed) -> None:
        rows[env.stream_id].status = "ACTIVE"

    @on(UserForgotten)
    def forgotten(self, rows: Rows[User], _: UserForgotten, env: Placed) -> None:
        user = rows[env.stream_id]
        user.status = "FORGOTTEN"
        user.email_verified = False
        user.email = user.mailbox = user.name = None

    @on(EmailRestored)
    def email_restored(self, rows: Rows[User], event: EmailRestored, env: Placed) -> None:
        user = rows[env.stream_id]
        user.email = event.email
        user.mailbox = _mailbox(event.email)
        user.email_verified = True
        user.status = "ACTIVE"

    @on(PasswordChanged, shown=False)
    @on(LoggedIn, shown=False)
    @on(LoggedOut, shown=False)
    @on(SessionsEnded, shown=False)
    @on(RefreshReused, shown=False)
    @on(ForgettingBegun, shown=False)
    @on(ForgettingInterrupted, shown=False)
    def version_moved(self, _rows: Rows[User], _event: Event, _env: Placed) -> None:
        """Changes only the version."""


def _mailbox(email: str) -> str:
    """The key of an address; the text itself if only an older release took it for an address."""
    try:
        return mailbox(email)
    except Invalid:
        return email
