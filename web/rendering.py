"""Templates and their filters."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from web import money, navigation, values, words
from web.charts import share
from web.countries import COUNTRIES
from web.covers import cover
from web.statics import StaticFiles

TEMPLATES = Path(__file__).parent / "templates"


class Renderer:
    """Renders templates. Text is escaped, and an undefined name is an error."""

    def __init__(self, statics: StaticFiles) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals["asset"] = statics.url
        self._environment.globals["console_navigation"] = navigation.CONSOLE
        self._environment.globals["desk_navigation"] = navigation.DESK
        self._environment.filters.update(
            money=_money,
            plain_amount=lambda of: money.plain(of.amount_cents, of.currency),
            moment=moment,
            day=day,
            status=status,
            entry_of=navigation.entry_of,
            event=words.event_word,
            failure=words.failure,
            sentence=words.as_sentence,
            platform=words.platform,
            status_word=words.status_word,
            parcel_status=words.parcel_status,
            buyers_parcel_status=words.buyers_parcel_status,
            sellers_game_status=words.sellers_game_status,
            no_parcels=words.no_parcels,
            tries=words.tries,
            country=lambda code: dict(COUNTRIES).get(code, code),
            cover=cover,
            leaf=values.leaf,
            in_one_line=values.in_one_line,
            number=lambda value: f"{value:,}",
            share=share,
            with_code=with_code,
            with_ids=with_ids,
        )
        # Blocks are also rendered alone, where what a template imports is not there.
        for name, template in (("ui", "macros.html"), ("console", "console/macros.html")):
            self._environment.globals[name] = self._environment.get_template(template).module

    def page(self, template: str, context: dict[str, Any]) -> str:
        """A whole page."""
        return self._environment.get_template(template).render(context)

    def block(self, template: str, name: str, context: dict[str, Any]) -> str:
        """One block of a page, as a fragment."""
        found = self._environment.get_template(template)
        return "".join(found.blocks[name](found.new_context(context)))


def _money(amount_cents: int, currency: str | None) -> Markup:
    """An amount that does not break across lines."""
    return Markup('<span class="money">{}</span>').format(money.shown(amount_cents, currency or ""))


def moment(at: datetime, style: str = "full") -> Markup:
    """A time, in UTC until the page's script shows it in the reader's own zone. `style`: `full`,
    `exact` (with seconds), `precise` (with milliseconds), `relative` (ticks: "3 minutes ago") or
    `countdown` (what is left)."""
    at = at.astimezone(UTC)
    time = {"exact": f"{at:%H:%M:%S}", "precise": f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"}
    text = f"{at.day} {at:%b %Y}, {time.get(style, f'{at:%H:%M}')}"
    precision = "milliseconds" if style == "precise" else "seconds"
    return Markup('<time datetime="{}" title="{}" data-style="{}">{}</time>').format(
        at.isoformat(timespec=precision), f"{text} UTC", style, f"{text} UTC"
    )


def day(on: date | str | None) -> str:
    """A date: `3 Mar 2026`."""
    if not on:
        return ""
    on = date.fromisoformat(on) if isinstance(on, str) else on
    return f"{on.day} {on:%b %Y}"


def status(value: str) -> Markup:
    """A status as a badge, which says in words what its colour says."""
    return Markup('<span class="badge {}">{}</span>').format(
        words.status_kind(value), words.status_word(value)
    )


def with_code(text: str) -> Markup:
    """A text with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )


_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def with_ids(text: str) -> Markup:
    """A text with each id shortened, and linked to what has this id."""
    between, ids = _ID.split(text), _ID.findall(text)
    links = [
        Markup('<a href="/console/find?id={0}" title="{0}"><code>{1}…</code></a>').format(
            each, each[:8]
        )
        for each in ids
    ]
    parts = [part for pair in zip(between, [*links, ""], strict=True) for part in pair]
    return Markup("").join(parts)
