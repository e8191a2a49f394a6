from uuid import UUID

from domain.events import Event
from domain.identity import (
    EmailVerified,
    LoggedIn,
    PasswordChanged,
    ProfileChanged,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
)
from kit.forgotten import FORGOTTEN
from projections.models.users import User, Users
from tests.support.events.history import BUYER, History, at, registered


def user_after(*events: Event) -> User:
    row = History().happened(BUYER, *events).row(Users(), BUYER)
    assert isinstance(row, User)
    return row


def test_a_registered_user_awaits_the_verification_of_the_email() -> None:
    user = user_after(registered())
    assert (user.email, user.name, user.account_type, user.region) == (
        "ana@example.com",
        "Ana",
        "BUYER",
        "BR",
    )
    assert (user.status, user.email_verified, user.version) == ("PENDING_VERIFICATION", False, 1)
    assert user.created_at == user.updated_at == at(1)


def test_a_verified_email_activates_the_account() -> None:
    user = user_after(registered(), EmailVerified())
    assert (user.status, user.email_verified, user.version, user.updated_at) == (
        "ACTIVE",
        True,
        2,
        at(2),
    )


def test_only_what_changed_in_a_profile_changes() -> None:
    user = user_after(registered(), EmailVerified(), ProfileChanged(name="Anna"))
    assert (user.name, user.email, user.region, user.email_verified) == (
        "Anna",
        "ana@example.com",
        "BR",
        True,
    )


def test_a_new_email_must_be_verified_again() -> None:
    user = user_after(
        registered(), EmailVerified(), ProfileChanged(email="anna@example.com", email_digest="d2")
    )
    assert (user.email, user.email_verified, user.status) == ("anna@example.com", False, "ACTIVE")


def test_a_login_moves_the_version_and_nothing_else() -> None:
    user = user_after(
        registered(), LoggedIn(session_id=UUID(int=7)), PasswordChanged(password_hash="other")
    )
    assert (user.version, user.updated_at) == (3, at(1))


def test_no_password_is_in_the_read_model() -> None:
    assert "secret" not in str(user_after(registered()))


def test_a_deactivated_account_that_verifies_its_email_late_stays_closed() -> None:
    assert user_after(registered(), UserDeactivated(), EmailVerified()).status == "DEACTIVATED"


def test_a_reopened_account_is_active() -> None:
    assert user_after(registered(), UserDeactivated(), UserReactivated()).status == "ACTIVE"


def test_a_forgotten_person_has_neither_name_nor_email() -> None:
    user = user_after(registered(), EmailVerified(), UserDeactivated(), UserForgotten())
    assert (user.status, user.email, user.name, user.email_verified) == (
        "FORGOTTEN",
        None,
        None,
        False,
    )


def test_a_replay_after_forgetting_makes_the_same_row_as_the_live_fold() -> None:
    live = user_after(
        registered(), ProfileChanged(email="b@example.com", email_digest="d2"), UserForgotten()
    )
    replayed = user_after(
        registered(email=FORGOTTEN, name=FORGOTTEN, password_hash=FORGOTTEN),
        ProfileChanged(email=None, email_digest="d2"),
        UserForgotten(),
    )
    assert live == replayed
