import msgspec
import pytest
from spec import an_id, fold, given, when

from domain import identity
from domain.errors import Conflict, Forbidden, Invalid, Unauthorized
from domain.events import FORGOTTEN, Event
from domain.identity import (
    AccountType,
    EmailVerified,
    LoggedIn,
    PasswordChanged,
    ProfileChanged,
    RefreshReused,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
    UserRegistered,
    evolve,
)

USER, SESSION = an_id("user"), an_id("session")
REGISTERED = UserRegistered(
    user_id=USER,
    account_type="BUYER",
    region="BR",
    email="ana@example.com",
    name="Ana",
    email_digest="digest",
    password_hash="hash",
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


def test_the_email_is_kept_normalised() -> None:
    when(lambda: register(email="  Ana@Example.COM ")).then(REGISTERED)


@pytest.mark.parametrize("account_type", ["ADMIN", "AUDITOR", "SERVICE"])
def test_only_an_admin_makes_privileged_accounts(account_type: AccountType) -> None:
    when(lambda: register(account_type)).then_refused(Forbidden, "account_type_not_allowed")
    when(lambda: register(account_type, by_admin=True)).then(
        msgspec.structs.replace(REGISTERED, account_type=account_type)
    )


@pytest.mark.parametrize(
    "email", ["", "ana", "ana@", "@example.com", "a na@example.com", "ana@host", "a@b@c.de", "a@.de"]
)
def test_what_is_no_address_is_refused(email: str) -> None:
    when(lambda: register(email=email)).then_refused(Invalid, "invalid_email")


@pytest.mark.parametrize("email", ["a@b.co", "ana.maria+games@mail.example.com", "josé@exämple.de"])
def test_what_has_the_shape_of_an_address_is_accepted(email: str) -> None:
    identity.check_email(email)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "\u200b\u3164", "Ann\u202e"], ids=ascii)
def test_a_name_is_needed(name: str) -> None:
    when(lambda: register(name=name)).then_refused(Invalid, "invalid_name")


@pytest.mark.parametrize("region", ["*", "br", "BRA", "UK", "EU", "ZZ"])
def test_a_region_is_a_country(region: str) -> None:
    when(lambda: register(region=region)).then_refused(Invalid, "invalid_region")


@pytest.mark.parametrize("password", ["", "123456789", "x" * 1025])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(Invalid, match="weak_password"):
        identity.check_password(password)


@pytest.mark.parametrize("password", ["1234567890", "x" * 1024])
def test_ten_characters_are_enough_for_a_password(password: str) -> None:
    identity.check_password(password)


def test_a_new_account_awaits_verification_and_may_do_everything() -> None:
    user = fold(evolve, REGISTERED)
    assert (user.status, user.email_verified, user.may_act) == ("PENDING_VERIFICATION", False, True)


def test_verifying_the_email_activates_the_account() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.verify_email(u, "digest")).then(EmailVerified())
    user = fold(evolve, REGISTERED, EmailVerified())
    assert (user.status, user.email_verified) == ("ACTIVE", True)


def test_verifying_twice_changes_nothing() -> None:
    given(evolve, REGISTERED, EmailVerified()).when(lambda u: identity.verify_email(u, "digest")).then_nothing()


def test_a_token_for_a_former_address_verifies_nothing() -> None:
    moved = ProfileChanged(email="new@example.com", email_digest="new")
    given(evolve, REGISTERED, moved).when(lambda u: identity.verify_email(u, "digest")).then_refused(
        Invalid, "invalid_token"
    )


def test_a_profile_change_says_only_what_changed() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.change_profile(u, name="Ana Maria", region="BR")).then(
        ProfileChanged(name="Ana Maria")
    )


def test_a_profile_change_that_changes_nothing_is_none() -> None:
    given(evolve, REGISTERED).when(
        lambda u: identity.change_profile(u, name="Ana", region="BR", email="ANA@example.com", email_digest="digest")
    ).then_nothing()


def test_a_new_email_is_verified_anew() -> None:
    moved = ProfileChanged(email="new@example.com", email_digest="new")
    given(evolve, REGISTERED, EmailVerified()).when(
        lambda u: identity.change_profile(u, email="New@Example.com", email_digest="new")
    ).then(moved)
    user = fold(evolve, REGISTERED, EmailVerified(), moved)
    assert (user.email, user.email_digest, user.email_verified, user.status) == (
        "new@example.com",
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
    given(evolve, REGISTERED).when(lambda u: identity.change_profile(u, **change)).then_refused(Invalid, code)


def test_a_password_is_changed() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.change_password(u, "new")).then(
        PasswordChanged(password_hash="new")
    )
    assert fold(evolve, REGISTERED, PasswordChanged(password_hash="new")).password_hash == "new"


def test_the_right_password_opens_a_session() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.log_in(u, password_matches=True, session_id=SESSION)).then(
        LoggedIn(session_id=SESSION)
    )


def test_an_unknown_email_a_wrong_password_and_an_imported_person_are_refused_alike() -> None:
    unknown = when(lambda: identity.log_in(None, password_matches=False, session_id=SESSION))
    wrong = given(evolve, REGISTERED).when(lambda u: identity.log_in(u, password_matches=False, session_id=SESSION))
    imported = given(evolve, IMPORTED).when(lambda u: identity.log_in(u, password_matches=True, session_id=SESSION))
    texts = {case.then_refused(Unauthorized, "invalid_credentials").detail for case in (unknown, wrong, imported)}
    assert len(texts) == 1


def test_a_closed_account_says_so_only_to_who_knows_the_password() -> None:
    closed = given(evolve, REGISTERED, UserDeactivated())
    closed.when(lambda u: identity.log_in(u, password_matches=True, session_id=SESSION)).then_refused(
        Forbidden, "user_inactive"
    )
    closed.when(lambda u: identity.log_in(u, password_matches=False, session_id=SESSION)).then_refused(
        Unauthorized, "invalid_credentials"
    )


def test_a_closed_account_changes_no_more() -> None:
    closed = given(evolve, REGISTERED, UserDeactivated())
    closed.when(lambda u: identity.change_profile(u, name="B")).then_refused(Forbidden, "user_inactive")
    closed.when(lambda u: identity.change_password(u, "new")).then_refused(Forbidden, "user_inactive")
    closed.when(lambda u: identity.verify_email(u, "digest")).then_refused(Forbidden, "user_inactive")


def test_the_reuse_of_a_refresh_token_is_put_on_record() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.note_refresh_reuse(u, SESSION)).then(
        RefreshReused(session_id=SESSION)
    )


def test_deactivating_closes_the_account_once() -> None:
    given(evolve, REGISTERED).when(lambda u: identity.deactivate(u, "asked")).then(UserDeactivated(reason="asked"))
    given(evolve, REGISTERED, UserDeactivated()).when(identity.deactivate).then_nothing()
    assert fold(evolve, REGISTERED, UserDeactivated()).status == "DEACTIVATED"


def test_forgetting_closes_an_account_in_use_first() -> None:
    given(evolve, REGISTERED).when(identity.forget).then(UserDeactivated(), UserForgotten())
    given(evolve, REGISTERED, UserDeactivated()).when(identity.forget).then(UserForgotten())


def test_a_forgotten_person_leaves_no_trace_but_the_digest_that_frees_the_email() -> None:
    user = fold(evolve, REGISTERED, EmailVerified(), UserDeactivated(), UserForgotten())
    assert (user.status, user.email, user.name, user.password_hash) == ("FORGOTTEN", FORGOTTEN, FORGOTTEN, "")
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
    closed.when(lambda u: identity.reopen(u, "by mistake")).then(UserReactivated(reason="by mistake"))
    assert fold(evolve, REGISTERED, UserDeactivated(), UserReactivated()).status == "ACTIVE"


def test_only_a_closed_account_that_is_somebodys_is_opened_again() -> None:
    given(evolve, REGISTERED).when(identity.reopen).then_refused(Conflict, "account_active")
    forgotten = given(evolve, REGISTERED, UserDeactivated(), UserForgotten())
    forgotten.when(identity.reopen).then_refused(Conflict, "account_forgotten")
