from functools import partial

import msgspec
import pytest

from domain import identity, passwords
from domain.errors import Conflict, Forbidden, Invalid, Unauthorized
from domain.events import Event
from domain.identity import (
    MAILBOX,
    AccountType,
    EmailRestored,
    EmailVerified,
    LoggedIn,
    PasswordChanged,
    ProfileChanged,
    RefreshReused,
    SessionsEnded,
    User,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
    UserRegistered,
    evolve,
)
from kit.forgotten import FORGOTTEN
from tests.support.given_when_then import an_id, fold, given, when

USER, SESSION = an_id("user"), an_id("session")
REGISTERED = UserRegistered(
    user_id=USER,
    account_type="BUYER",
    region="BR",
    email="ana@example.com",
    name="Ana",
    email_digest="digest",
    password_hash="hash",
    digest_of=MAILBOX,
)
IMPORTED = msgspec.structs.replace(REGISTERED, password_hash="")


def register(
    account_type: AccountType = "BUYER",
    email: str = "ana@example.com",
    name: str = "Ana",
    region: str = "BR",
    by_admin: bool = False,
) -> list[Event]:
    return identity.register(
        user_id=USER,
        account_type=account_type,
        email=email,
        name=name,
        email_digest="digest",
        password_hash="hash",
        region=region,
        by_admin=by_admin,
    )


def test_anyone_registers_as_a_buyer() -> None:
    when(register).then(REGISTERED)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Ana@Example.COM", "Ana@Example.COM"),
        ("bob@faß.de", "bob@faß.de"),
        ("σς@groß.example", "σς@groß.example"),
        # NFC, which looks the same
        ("jose\u0301@xn--bcher-kva.example", "jos\u00e9@xn--bcher-kva.example"),
    ],
)
def test_the_email_is_kept_as_typed(typed: str, kept: str) -> None:
    when(lambda: register(email=typed)).then(msgspec.structs.replace(REGISTERED, email=kept))


@pytest.mark.parametrize("account_type", ["ADMIN", "AUDITOR", "SERVICE"])
def test_only_an_admin_makes_privileged_accounts(account_type: AccountType) -> None:
    when(lambda: register(account_type)).then_refused(Forbidden, "account_type_not_allowed")
    when(lambda: register(account_type, by_admin=True)).then(
        msgspec.structs.replace(REGISTERED, account_type=account_type)
    )


def test_what_is_no_address_is_refused() -> None:
    when(lambda: register(email="ana@")).then_refused(Invalid, "invalid_email")


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "\u200b\u3164", "Ann\u202e"], ids=ascii)
def test_a_name_is_needed(name: str) -> None:
    when(lambda: register(name=name)).then_refused(Invalid, "invalid_name")


@pytest.mark.parametrize("region", ["*", "br", "BRA", "UK", "EU", "ZZ"])
def test_a_region_is_a_country(region: str) -> None:
    when(lambda: register(region=region)).then_refused(Invalid, "invalid_region")


@pytest.mark.parametrize("password", ["", "123456789", "x" * 1025])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(Invalid, match="weak_password"):
        passwords.check_password(password)


@pytest.mark.parametrize("password", ["1234567890", "x" * 1024])
def test_ten_characters_are_enough_for_a_password(password: str) -> None:
    passwords.check_password(password)


def test_a_password_is_the_same_on_every_keyboard() -> None:
    composed, apart = "jos\u00e9 e a na\u00e7\u00e3o", "jose\u0301\u00a0e a nac\u0327a\u0303o"
    assert passwords.as_compared(apart) == composed


def test_a_password_has_its_ten_characters_as_it_is_compared() -> None:
    with pytest.raises(Invalid, match="weak_password"):
        passwords.check_password("e\u0301" * 9)


def test_a_new_account_awaits_verification_and_may_do_everything() -> None:
    user = fold(evolve, REGISTERED)
    assert (user.status, user.email_verified, user.may_act) == ("PENDING_VERIFICATION", False, True)


def test_verifying_the_email_activates_the_account() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.verify_email(u, "digest")).then(
        EmailVerified()
    )
    user = fold(evolve, REGISTERED, EmailVerified())
    assert (user.status, user.email_verified) == ("ACTIVE", True)


def test_verifying_twice_changes_nothing() -> None:
    given(evolve, REGISTERED, EmailVerified()).when(
        lambda u: identity.verify_email(u, "digest")
    ).then_nothing()


def test_a_token_for_a_former_address_verifies_nothing() -> None:
    moved = ProfileChanged(email="new@example.com", email_digest="new")
    given(evolve, REGISTERED, moved).when(
        lambda u: identity.verify_email(u, "digest")
    ).then_refused(Invalid, "invalid_token")


def test_a_profile_change_says_only_what_changed() -> None:
    given(evolve, REGISTERED).when(
        lambda u: identity.change_profile(u, name="Ana Maria", region="BR")
    ).then(ProfileChanged(name="Ana Maria"))


def test_a_profile_change_that_changes_nothing_is_none() -> None:
    given(evolve, REGISTERED).when(
        lambda u: identity.change_profile(
            u, name="Ana", region="BR", email="ana@example.com", email_digest="digest"
        )
    ).then_nothing()


def test_a_new_email_is_verified_anew() -> None:
    moved = ProfileChanged(email="New@example.com", email_digest="new", digest_of=MAILBOX)
    given(evolve, REGISTERED, EmailVerified()).when(
        lambda u: identity.change_profile(u, email="New@example.com", email_digest="new")
    ).then(moved)
    user = fold(evolve, REGISTERED, EmailVerified(), moved)
    assert (user.email, user.email_digest, user.email_verified, user.status) == (
        "New@example.com",
        "new",
        False,
        "ACTIVE",
    )
    assert fold(evolve, REGISTERED, EmailVerified(), ProfileChanged(name="A")).email_verified


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"email": "nobody", "email_digest": "x"}, "invalid_email"),
        ({"name": " "}, "invalid_name"),
        ({"region": "*"}, "invalid_region"),
    ],
)
def test_a_profile_keeps_to_the_rules_of_registration(change: dict[str, str], code: str) -> None:
    given(evolve, REGISTERED).when(lambda u: identity.change_profile(u, **change)).then_refused(
        Invalid, code
    )


def test_a_password_is_changed() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.change_password(u, "new")).then(
        PasswordChanged(password_hash="new")
    )
    assert fold(evolve, REGISTERED, PasswordChanged(password_hash="new")).password_hash == "new"


def test_the_right_password_opens_a_session() -> None:
    given(evolve, REGISTERED).when(
        lambda u: identity.log_in(u, password_matches=True, session_id=SESSION)
    ).then(LoggedIn(session_id=SESSION))


def test_an_unknown_email_a_wrong_password_and_an_imported_person_are_refused_alike() -> None:
    unknown = when(lambda: identity.log_in(None, password_matches=False, session_id=SESSION))
    wrong = given(evolve, REGISTERED).when(
        lambda u: identity.log_in(u, password_matches=False, session_id=SESSION)
    )
    imported = given(evolve, IMPORTED).when(
        lambda u: identity.log_in(u, password_matches=True, session_id=SESSION)
    )
    texts = {
        case.then_refused(Unauthorized, "invalid_credentials").detail
        for case in (unknown, wrong, imported)
    }
    assert len(texts) == 1


def test_a_closed_account_says_so_only_to_who_knows_the_password() -> None:
    closed = given(evolve, REGISTERED, UserDeactivated())
    closed.when(
        lambda u: identity.log_in(u, password_matches=True, session_id=SESSION)
    ).then_refused(Forbidden, "user_inactive")
    closed.when(
        lambda u: identity.log_in(u, password_matches=False, session_id=SESSION)
    ).then_refused(Unauthorized, "invalid_credentials")


def test_a_closed_account_changes_no_more() -> None:
    closed = given(evolve, REGISTERED, UserDeactivated())
    closed.when(lambda u: identity.change_profile(u, name="B")).then_refused(
        Forbidden, "user_inactive"
    )
    closed.when(lambda u: identity.change_password(u, "new")).then_refused(
        Forbidden, "user_inactive"
    )
    closed.when(lambda u: identity.verify_email(u, "digest")).then_refused(
        Forbidden, "user_inactive"
    )


def test_the_reuse_of_a_refresh_token_is_put_on_record() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.note_refresh_reuse(u, SESSION)).then(
        RefreshReused(session_id=SESSION)
    )


OTHER = an_id("another session")


def ends(*after: Event) -> tuple[bool, bool]:
    """Whether these events end a session opened before them, and another session of that time."""
    user = fold(evolve, REGISTERED, *after)
    return not user.keeps(SESSION, 0), not user.keeps(OTHER, 0)


def test_all_sessions_end_at_once_but_one_that_is_kept() -> None:
    assert ends() == (False, False)
    assert ends(SessionsEnded()) == (True, True)
    assert ends(SessionsEnded(kept_session_id=SESSION)) == (False, True)
    assert ends(SessionsEnded(kept_session_id=SESSION), SessionsEnded(kept_session_id=SESSION)) == (
        False,
        True,
    )
    assert ends(SessionsEnded(kept_session_id=SESSION), SessionsEnded()) == (True, True)
    assert ends(UserDeactivated()) == ends(UserForgotten()) == (True, True)


def test_a_session_that_is_opened_afterwards_stands() -> None:
    user = fold(evolve, REGISTERED, SessionsEnded())
    assert user.keeps(OTHER, user.session_epoch)


def test_what_was_kept_of_the_first_releases_ends_no_session() -> None:
    assert ends(
        PasswordChanged(password_hash="new"), ProfileChanged(email="b@c.de", email_digest="b")
    ) == (
        False,
        False,
    )


MOVED = (
    ProfileChanged(email="thief@example.com", email_digest="thief", digest_of=MAILBOX),
    SessionsEnded(),
)
BACK = EmailRestored(email="ana@example.com", email_digest="digest")


def restore_email(user: User, epoch: int) -> list[Event]:
    return identity.restore_email(user, epoch=epoch, email="ana@example.com", email_digest="digest")


def test_who_reads_mail_at_the_former_address_takes_the_account_back() -> None:
    given(evolve, REGISTERED, *MOVED).when(lambda u: restore_email(u, 1)).then(BACK)
    user = fold(evolve, REGISTERED, *MOVED, BACK)
    assert (user.email, user.email_digest, user.email_verified) == (
        "ana@example.com",
        "digest",
        True,
    )


def test_an_account_is_taken_back_once_and_from_whoever_had_it_in_between() -> None:
    elsewhere = (
        ProfileChanged(email="c@example.com", email_digest="c", digest_of=MAILBOX),
        SessionsEnded(),
    )
    taken = given(evolve, REGISTERED, *MOVED, *elsewhere, BACK, SessionsEnded())
    for mailed in (1, 2):  # to Ana, and to the thief when he changed it again
        taken.when(partial(restore_email, epoch=mailed)).then_refused(Invalid, "invalid_token")


def test_a_closed_account_is_not_taken_back() -> None:
    given(evolve, REGISTERED, *MOVED, UserDeactivated()).when(
        lambda u: restore_email(u, 1)
    ).then_refused(Forbidden, "user_inactive")


def test_deactivating_closes_the_account_once() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.deactivate(u, "asked")).then(
        UserDeactivated(reason="asked")
    )
    given(evolve, REGISTERED, UserDeactivated()).when(identity.deactivate).then_nothing()
    assert fold(evolve, REGISTERED, UserDeactivated()).status == "DEACTIVATED"


def test_forgetting_closes_an_account_in_use_first() -> None:
    given(evolve, REGISTERED).when(identity.forget).then(UserDeactivated(), UserForgotten())
    given(evolve, REGISTERED, UserDeactivated()).when(identity.forget).then(UserForgotten())


def test_a_forgotten_person_leaves_no_trace_but_the_digest_that_frees_the_email() -> None:
    user = fold(evolve, REGISTERED, EmailVerified(), UserDeactivated(), UserForgotten())
    assert (user.status, user.email, user.name, user.password_hash) == (
        "FORGOTTEN",
        FORGOTTEN,
        FORGOTTEN,
        "",
    )
    assert user.email_digest == "digest"


def test_forgetting_is_for_good() -> None:
    gone = given(evolve, REGISTERED, UserDeactivated(), UserForgotten())
    gone.when(identity.forget).then_nothing()
    gone.when(identity.deactivate).then_nothing()
    gone.when(lambda u: identity.log_in(u, password_matches=True, session_id=SESSION)).then_refused(
        Unauthorized, "invalid_credentials"
    )


def test_a_closed_account_is_opened_again() -> None:
    closed = given(evolve, REGISTERED, UserDeactivated())
    closed.when(lambda u: identity.reopen(u, "by mistake")).then(
        UserReactivated(reason="by mistake")
    )
    assert fold(evolve, REGISTERED, UserDeactivated(), UserReactivated()).status == "ACTIVE"


def test_only_a_closed_account_that_is_somebodys_is_opened_again() -> None:
    given(evolve, REGISTERED).when(identity.reopen).then_refused(Conflict, "account_active")
    forgotten = given(evolve, REGISTERED, UserDeactivated(), UserForgotten())
    forgotten.when(identity.reopen).then_refused(Conflict, "account_forgotten")
