"""Charts: valid SVG, whatever the figures are."""

from xml.etree import ElementTree

import pytest

from web.charts import HEIGHT, WIDTH, Bar, bar_chart, share


def drawn(*values: int) -> ElementTree.Element:
    bars = [Bar(f"day {number}", value, f"{value} <sold>") for number, value in enumerate(values)]
    (svg,) = ElementTree.fromstring(bar_chart('Sales "by" day', bars, str))
    return svg


@pytest.mark.parametrize("values", [(), (0,), (0, 0), (1,), (7, 0, 3), (10**15,), (1,) * 62])
def test_bars_stay_within_the_chart(values: tuple[int, ...]) -> None:
    svg = drawn(*values)

    bars = [each for each in svg.iter("rect") if each.get("class") == "bar"]
    assert len(bars) == len(values)
    for bar in bars:
        x, y, width, height = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + width <= WIDTH
        assert y >= 0
        assert y + height <= HEIGHT


def test_bars_are_as_high_as_their_values() -> None:
    one, two, none = [
        float(each.attrib["height"])
        for each in drawn(50, 100, 0).iter("rect")
        if each.get("class") == "bar"
    ]

    assert two == pytest.approx(2 * one, abs=0.2)
    assert none == 0


def test_lines_are_at_round_values() -> None:
    texts = [each.text for each in drawn(7, 3).iter("text")]

    assert texts[:2] == ["10", "5"]


def test_texts_are_escaped_and_a_label_says_what_it_is() -> None:
    svg = drawn(5)

    assert svg.attrib["aria-label"] == 'Sales "by" day'
    assert [each.text for each in svg.iter("title")] == ["5 <sold>"]


def test_names_do_not_overlap() -> None:
    assert (
        len(
            [each for each in drawn(*range(62)).iter("text") if (each.text or "").startswith("day")]
        )
        <= 6
    )


@pytest.mark.parametrize(
    ("part", "whole", "width"), [(0, 0, 0), (1, 4, 25), (5, 4, 100), (-1, 4, 0)]
)
def test_a_share_is_between_nothing_and_all(part: int, whole: int, width: float) -> None:
    (rect,) = ElementTree.fromstring(share(part, whole))

    assert float(rect.attrib["width"]) == width
