"""Small charts of the latest values, as SVG."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 120, 28

Spark = Markup


def spark(values: Sequence[float]) -> Spark:
    """A line through these values, from 0 to the highest; empty for fewer than two. It says nothing
    that does not also stand beside it in figures."""
    if len(values) < 2:
        return Markup("")
    highest = max(values) or 1.0
    step = WIDTH / (len(values) - 1)
    points = " ".join(
        f"{number * step:.1f},{HEIGHT - 1 - value / highest * (HEIGHT - 2):.1f}"
        for number, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">'
        '<polyline points="{}"></polyline></svg>'
    ).format(WIDTH, HEIGHT, points)
