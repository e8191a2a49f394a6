"""What a buyer is told to try after a payment failed."""

import pytest

from domain.payments.remedies import in_words, remedies


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("processing_error", "same_card"),
        ("provider_unavailable", "same_card"),
        ("incorrect_cvc", "corrected_details"),
        ("expired_card", "corrected_details"),
        ("card_declined", "another_card"),
        ("fraudulent", "another_card"),
        (None, "another_card"),
    ],
)
def test_the_most_promising_comes_first_and_other_means_always_follow(
    code: str | None, first: str
) -> None:
    found = remedies(code)
    assert found[0] == first
    assert tuple(found[-2:]) == ("another_card", "wallet")
    assert len(set(found)) == len(found)


def test_they_are_said_in_a_sentence() -> None:
    assert in_words(remedies("processing_error")) == (
        "You can try the same card again, pay with another card or pay from your wallet."
    )
