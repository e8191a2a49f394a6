"""A token is valid only if we issued it, for this purpose, and it has not expired."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from api.tokens import AccessClaims, RefreshClaims, Tokens, new_private_key
from domain.errors import Unauthorized
from kit.clock import ManualClock
from tests.support.shops.small_gateway import KEY, NOON, tokens_at

ANN, SESSION = UUID(int=1), UUID(int=2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def tokens(clock: ManualClock) -> Tokens:
    return tokens_at(clock)


def refused(read: Callable[[str], object], token: str) -> None:
    with pytest.raises(Unauthorized) as refusal:
        read(token)
    assert refusal.value.code == "invalid_token"


def test_an_access_token_speaks_for_its_person(tokens: Tokens) -> None:
    token = tokens.mint_access(ANN, "BUYER", SESSION)

    assert tokens.read_access(token) == AccessClaims(
        ANN, "BUYER", SESSION, NOON + timedelta(minutes=15)
    )


def test_an_access_token_ends_after_fifteen_minutes(tokens: Tokens, clock: ManualClock) -> None:
    token = tokens.mint_access(ANN, "BUYER", SESSION)
    clock.advance(timedelta(minutes=14, seconds=59))
    tokens.read_access(token)

    clock.advance(timedelta(seconds=1))

    refused(tokens.read_access, token)


def test_anybody_can_check_an_access_token_by_the_published_key(tokens: Tokens) -> None:
    published: Any = tokens.jwks()["keys"]
    (key,) = published
    assert "d" not in key

    token = jwt.decode(
        tokens.mint_access(ANN, "SELLER", SESSION), OKPKey.import_key(key), algorithms=["EdDSA"]
    )

    assert token.header["kid"] == key["kid"]
    assert token.claims["role"] == "SELLER"
    assert (token.claims["iss"], token.claims["aud"], token.claims["sub"]) == (
        "ludoteca",
        "ludoteca",
        str(ANN),
    )
    assert token.claims["exp"] - token.claims["iat"] == 15 * 60
    assert UUID(token.claims["jti"])


def test_a_token_signed_by_another_key_is_refused(tokens: Tokens, clock: ManualClock) -> None:
    forger = Tokens(new_private_key(), "ludoteca", "ludoteca", clock)

    refused(tokens.read_access, forger.mint_access(ANN, "ADMIN", SESSION))


def test_a_token_of_a_machine_whose_clock_is_ahead_serves_within_what_is_tolerated(
    tokens: Tokens, clock: ManualClock
) -> None:
    soon, late = (tokens_at(ManualClock(NOON + timedelta(minutes=ahead))) for ahead in (1, 60))
    assert tokens.read_access(soon.mint_access(ANN, "BUYER", SESSION)).user_id == ANN
    refused(tokens.read_access, late.mint_access(ANN, "BUYER", SESSION))
    assert (
        tokens.read_refresh(late.mint_refresh(SESSION, 3, NOON + timedelta(days=1))).generation == 3
    )


@pytest.mark.parametrize(("issuer", "audience"), [("another", "ludoteca"), ("ludoteca", "another")])
def test_a_token_for_another_shop_is_refused(
    tokens: Tokens, clock: ManualClock, issuer: str, audience: str
) -> None:
    other = Tokens(KEY, issuer, audience, clock)

    refused(tokens.read_access, other.mint_access(ANN, "ADMIN", SESSION))


def test_a_token_whose_claims_were_changed_is_refused(tokens: Tokens) -> None:
    header, claims, signature = tokens.mint_access(ANN, "BUYER", SESSION).split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"role": "ADMIN"}
    claims = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()

    refused(tokens.read_access, f"{header}.{claims}.{signature}")


def test_a_token_without_a_signature_is_refused(tokens: Tokens) -> None:
    _, claims, _ = tokens.mint_access(ANN, "ADMIN", SESSION).split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()

    refused(tokens.read_access, f"{header}.{claims}.")


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(tokens: Tokens) -> None:
    claims = jwt.decode(
        tokens.mint_access(ANN, "ADMIN", SESSION), OKPKey.import_key(KEY), algorithms=["EdDSA"]
    ).claims
    secret = OctKey.import_key(str(OKPKey.import_key(KEY).as_dict(private=False)["x"]))

    refused(tokens.read_access, jwt.encode({"alg": "HS256", "typ": "at+jwt"}, claims, secret))


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "é", "..", "null"])
def test_a_malformed_token_is_refused(tokens: Tokens, token: str) -> None:
    refused(tokens.read_access, token)


def test_a_refresh_token_names_its_session_and_generation(tokens: Tokens) -> None:
    token = tokens.mint_refresh(SESSION, 3, NOON + timedelta(days=30))

    assert tokens.read_refresh(token) == RefreshClaims(SESSION, 3)


def test_neither_kind_of_token_passes_for_the_other(tokens: Tokens) -> None:
    refused(tokens.read_access, tokens.mint_refresh(SESSION, 0, NOON + timedelta(days=30)))
    refused(tokens.read_refresh, tokens.mint_access(ANN, "BUYER", SESSION))


def test_no_two_tokens_are_the_same(tokens: Tokens) -> None:
    assert tokens.mint_access(ANN, "BUYER", SESSION) != tokens.mint_access(ANN, "BUYER", uuid4())
    assert tokens.mint_access(ANN, "BUYER", SESSION) != tokens.mint_access(ANN, "BUYER", SESSION)


def test_a_token_that_was_read_before_still_ends(tokens: Tokens, clock: ManualClock) -> None:
    token = tokens.mint_access(ANN, "BUYER", SESSION)
    assert tokens.read_access(token) == tokens.read_access(token)

    clock.advance(timedelta(minutes=15))

    refused(tokens.read_access, token)
    refused(tokens.read_access, token)


class ClockThatGoesBack(ManualClock):
    def go_back(self, by: timedelta) -> None:
        self._now -= by


def test_a_token_that_was_read_before_is_too_early_when_the_clock_goes_back() -> None:
    clock = ClockThatGoesBack(NOON)
    tokens = tokens_at(clock)
    token = tokens.mint_access(ANN, "BUYER", SESSION)
    tokens.read_access(token)

    clock.go_back(timedelta(minutes=6))

    refused(tokens.read_access, token)


def test_a_token_is_not_taken_for_one_that_was_read_before(tokens: Tokens) -> None:
    mine, other = (tokens.mint_access(UUID(int=n), "BUYER", SESSION) for n in (1, 2))
    assert tokens.read_access(mine).user_id == ANN
    head, payload, _ = mine.split(".")

    assert tokens.read_access(other).user_id == UUID(int=2)
    refused(tokens.read_access, f"{head}.{payload}.{other.split('.')[2]}")
    refused(tokens.read_access, f"{mine}x")
    refused(tokens.read_refresh, mine)


def test_only_so_many_tokens_are_remembered(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.tokens.VERIFIED_TOKENS", 2)
    read = [tokens.mint_access(ANN, "BUYER", UUID(int=n)) for n in range(1, 6)]

    for token in [*read, *read]:
        tokens.read_access(token)

    assert len(tokens._verified) == 2
