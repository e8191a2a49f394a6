"""Charts, drawn on the server as SVG. A table beside each has the figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 640, 220
TOP, BOTTOM = 22, 24
SPARK_WIDTH, SPARK_HEIGHT = 120, 28
MAX_BAR_WIDTH = 36.0
TICKS = 6
_STEPS = (10, 12, 16, 20, 24, 30, 40, 50, 60, 80)


@dataclass(frozen=True)
class Bar:
    """A value of at least 0. `name` stands below it, where there is room; `text` is shown where the
    pointer is."""

    name: str
    value: int
    text: str


def bar_chart(label: str, bars: Sequence[Bar], shown: Callable[[int], str]) -> Markup:
    """A bar chart. Screen readers announce it as `label`; `shown` makes a text of a value."""
    top = _rounded_up(max((bar.value for bar in bars), default=0))
    return Markup(
        '<figure class="chart"><svg class="bars" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="{label}">{lines}{bars}</svg></figure>'
    ).format(
        width=WIDTH,
        height=HEIGHT,
        label=label,
        lines=Markup("").join(_line(value, top, shown) for value in (top, top // 2, 0)),
        bars=Markup("").join(_bar(bars, index, top) for index in range(len(bars))),
    )


def _rounded_up(value: int) -> int:
    """The next round number, such as 10, 12, 16 or 240. Its half is a whole number, too."""
    size = 1
    while True:
        for step in _STEPS:
            if size * step >= value:
                return size * step
        size *= 10


def _y(value: int, top: int) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


def _line(value: int, top: int, shown: Callable[[int], str]) -> Markup:
    y = _y(value, top)
    return Markup(
        '<path class="grid" d="M0 {y:.1f}H{width}"/>'
        '<text class="tick" y="{above:.1f}">{text}</text>'
    ).format(y=y, width=WIDTH, above=y - 5, text=shown(value) if value else "")


def _bar(bars: Sequence[Bar], index: int, top: int) -> Markup:
    bar, slot = bars[index], WIDTH / len(bars)
    width = min(slot * 0.72, MAX_BAR_WIDTH)
    middle, y = slot * (index + 0.5), _y(bar.value, top)
    every = -(-len(bars) // TICKS)
    tick = Markup("")
    if index % every == every // 2:
        tick = Markup(
            '<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{name}</text>'
        ).format(x=middle, y=HEIGHT - 6, name=bar.name)
    return Markup(
        '<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        ' rx="{rx:.1f}"><title>{text}</title></rect>{tick}'
    ).format(
        text=bar.text,
        x=middle - width / 2,
        y=y,
        width=width,
        height=HEIGHT - BOTTOM - y,
        rx=min(width / 4, 3.0),
        tick=tick,
    )


def share(part: int, whole: int) -> Markup:
    """A bar beside a figure, as long as its share of the whole. Screen readers leave it out: the
    figure says the same."""
    width = 0.0 if whole <= 0 else min(max(part, 0) / whole, 1.0) * 100
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"'
        ' focusable="false"><rect width="{width:.1f}" height="8" rx="2"/></svg>'
    ).format(width=width)


def spark(values: Sequence[float]) -> Markup:
    """A sparkline of these values, from 0 to the highest; empty for fewer than two. Screen readers
    leave it out: the figures beside it say the same."""
    if len(values) < 2:
        return Markup("")
    highest = max(values) or 1.0
    step = SPARK_WIDTH / (len(values) - 1)
    points = " ".join(
        f"{number * step:.1f},{SPARK_HEIGHT - 1 - value / highest * (SPARK_HEIGHT - 2):.1f}"
        for number, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">'
        '<polyline points="{}"></polyline></svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, points)
