from domain import claims
from domain.claims import ClaimReleased, ClaimTaken, evolve
from domain.errors import Conflict, Refused
from tests.support.given_when_then import an_id, given, when

ALICE, BOB = an_id("alice"), an_id("bob")
TAKEN = Conflict("email_taken")
BY_ALICE = ClaimTaken(kind="email", holder_id=ALICE)
BY_BOB = ClaimTaken(kind="email", holder_id=BOB)
RELEASED = ClaimReleased(reason="forgotten")


def test_a_free_claim_can_be_taken() -> None:
    when(lambda: claims.take(None, "email", ALICE, TAKEN)).then(BY_ALICE)


def test_what_another_holds_is_refused_in_the_claimants_own_words() -> None:
    given(evolve, BY_ALICE).when(lambda c: claims.take(c, "email", BOB, TAKEN)).then_refused(
        Conflict, "email_taken"
    )


def test_the_holder_cannot_claim_it_twice() -> None:
    given(evolve, BY_ALICE).when(lambda c: claims.take(c, "email", ALICE, TAKEN)).then_refused(
        Conflict, "email_taken"
    )


def test_the_refusal_is_the_very_one_given() -> None:
    refusal: Refused = Conflict("already_owned", order_id="7")
    refused = given(evolve, BY_ALICE).when(lambda c: claims.take(c, "email", BOB, refusal))
    assert refused.then_refused(Conflict, "already_owned") is refusal


def test_a_released_claim_can_be_taken_again() -> None:
    given(evolve, BY_ALICE, RELEASED).when(lambda c: claims.take(c, "email", BOB, TAKEN)).then(
        BY_BOB
    )


def test_a_claim_taken_again_is_held_by_the_new_holder() -> None:
    given(evolve, BY_ALICE, RELEASED, BY_BOB).when(
        lambda c: claims.take(c, "email", ALICE, TAKEN)
    ).then_refused(Conflict, "email_taken")


def test_the_holder_releases_it() -> None:
    given(evolve, BY_ALICE).when(lambda c: claims.release(c, ALICE, "forgotten")).then(RELEASED)


def test_only_the_holder_releases_a_claim() -> None:
    given(evolve, BY_ALICE).when(lambda c: claims.release(c, BOB, "refunded")).then_nothing()


def test_releasing_twice_changes_nothing() -> None:
    given(evolve, BY_ALICE, RELEASED).when(
        lambda c: claims.release(c, ALICE, "forgotten")
    ).then_nothing()
    when(lambda: claims.release(None, ALICE, "forgotten")).then_nothing()
