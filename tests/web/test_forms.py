"""Forms: bodies of what was typed, and refusals beside the fields."""

import pytest

from web.api_client import FieldError, Problem
from web.forms import Form
from web.words import failure


def test_a_body_has_what_was_filled_in() -> None:
    form = Form({"name": " Ann ", "a.b.c": "x", "a.d": " ", "password": " p ", "csrf": "s"})

    assert form.body("name", "a.b.c", "a.d", "password", "missing") == {
        "name": "Ann",
        "a": {"b": {"c": "x"}},
        "password": " p ",
    }


def test_secrets_are_never_shown_again() -> None:
    form = Form({"password": "p", "name": ""})

    assert form.shown("password") == ""
    assert form.shown("name", "Ann") == ""  # it was emptied
    assert form.shown("region", "US") == "US"


def refused(problem: Problem, **names: str) -> Form:
    form = Form({"amount": "x", "email": "x", "to": ""})
    form.refuse(problem, names)
    return form


def test_errors_stand_beside_their_fields_and_others_above() -> None:
    errors = (FieldError("amount_cents", "too small"), FieldError("token", "missing"))
    form = refused(Problem("invalid_request", 422, errors=errors), amount_cents="amount")

    assert form.errors == {"amount": "Too small."}
    assert form.problem == "token: Missing."


def test_an_error_in_one_of_several_words_stands_beside_their_field() -> None:
    form = Form({"genres": "a, b", "region": ""})
    errors = (FieldError("genres.1", "too long"), FieldError("prices.0.region", "unknown"))
    form.refuse(Problem("invalid_request", 422, errors=errors))

    assert form.errors == {"genres": "Too long."}
    assert form.problem == "prices.0.region: Unknown."


def test_a_refusal_is_said_beside_the_field_that_it_is_about() -> None:
    assert refused(Problem("insufficient_funds", 409)).errors.keys() == {"amount"}
    assert refused(Problem("email_taken", 409)).errors.keys() == {"email"}
    assert refused(Problem("invalid_to", 422, "no")).errors == {"to": "No."}
    assert refused(Problem("cart_empty", 409)).problem == "Your cart is empty."
    assert refused(Problem("new_code", 409, "some text")).problem == "Some text."
    assert refused(Problem("new_code", 409)).problem == "New code."
    # the form has no such field
    assert (
        refused(Problem("weak_password", 422)).problem == "A password has at least 10 characters."
    )


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("missing", "Field required", "Fill this in."),
        (
            "uuid_parsing",
            "Input should be a valid UUID, invalid character: found `x` at 1",
            "This is not a number as the shop gives it. Copy it as a whole.",
        ),
        ("string_too_long", "String should have at most 300 characters", "At most 300 characters."),
        (
            "value_error",
            "Value error, this has no visible character",
            "This has no visible character.",
        ),
        ("new_code", "some text", "Some text."),
    ],
)
def test_what_is_wrong_with_a_field_is_said_in_words(code: str, message: str, said: str) -> None:
    error = FieldError("email", message, code)
    assert refused(Problem("invalid_request", 422, errors=(error,))).errors == {"email": said}


@pytest.mark.parametrize(
    "problem",
    [
        Problem("session_ended", 401),
        Problem("rate_limited", 429),
        Problem("dependency_unavailable", 503),
    ],
    ids=lambda problem: problem.code,
)
def test_what_no_form_can_mend_is_raised(problem: Problem) -> None:
    with pytest.raises(Problem, match=problem.code):
        refused(problem)


def test_why_a_payment_failed_is_said_to_the_payer() -> None:
    providers_words = "The payer did not authenticate the payment."
    code = "payment_intent_authentication_failure"
    assert failure(code, providers_words) == "You did not confirm the payment at your bank."
    assert failure("card_declined", "The card was declined.") == "The card was declined."
    assert failure("new_code") == "New code."
