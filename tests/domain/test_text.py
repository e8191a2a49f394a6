import pytest

from domain.text import is_visible


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u00a0\u3000",  # blanks that are no space
        "\u200b\u200d\ufeff",  # of no width
        "\u2060\u00ad\u202e",  # joiner, soft hyphen, order of writing
        "\u3164\u115f\u1160\uffa0\u2800",  # fillers
        "\u0301\ufe0f",  # an accent and a variation, of nothing
        "\U000e0041",  # a tag
    ],
)
def test_nobody_sees(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", ["a", "!!!", "♥", "रानी", " \u200bx", "7", "\u0301e", "ﾎﾟ"])
def test_people_see(text: str) -> None:
    assert is_visible(text)
