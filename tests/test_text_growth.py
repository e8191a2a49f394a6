"""Twice the text costs at most three times as much, whatever the text: each filter that folds,
normalizes or searches strangers' texts, on adversarial texts of the largest size that the gateway
lets through to it.

The measure is this process' CPU time, the least of several runs, measured again when it is too
large: a busy machine is no failure. A module that normalizes Unicode and is missing in the table
fails.
"""

import gc
import html
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from pydantic import TypeAdapter

from adapters.text_log import one_line
from adapters.webhooks.signature import check_time
from api import answers, fields, hints, reading
from api.middleware.card_numbers import contain_card_number
from domain import (
    catalog,
    email_addresses,
    fulfilment,
    identity,
    passwords,
    text,
    web_addresses,
    webhook_endpoints,
)
from kit.card_numbers import has_card_number, is_card_token
from projections.search import text as search_text
from projections.search import words
from queries.search.highlight import Highlighter
from runtime.load.csv_records import Records

Filter = Callable[[str], object]

BODY, HEAD, FILE = 1024 * 1024, 64 * 1024, 256 * 1024
"""The gateway's limits of a body and a head; a file is unlimited."""

LINE, WORD, PROSE, TOKEN, PASSWORD, QUERY = 300, 64, 20_000, 4096, 4096, 500
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def typed(kind: Any) -> Filter:
    """What a field of this type does with a text."""
    return TypeAdapter(kind).validate_python


def count(values: Iterable[object]) -> int:
    return sum(1 for _ in values)


def with_names(value: str) -> object:
    """A body with many unknown fields, which are searched when it is refused."""
    many = {value[at : at + 40]: [value] for at in range(0, len(value), 40)}
    return contain_card_number([{"type": "extra_forbidden", "loc": ("body", value), "input": many}])


FILTERS: dict[str, tuple[Filter, int]] = {
    "a card number in a note": (has_card_number, LINE),
    "a card number in prose": (has_card_number, PROSE),
    "a card number in a token": (is_card_token, TOKEN),
    "card numbers in what is refused": (with_names, BODY),
    "a name that is hinted at": (partial(hints.hint, known=["game_id"]), BODY),
    "a line": (typed(fields.SingleLine), LINE),
    "a word": (typed(fields.Word), WORD),
    "prose": (typed(fields.Prose), PROSE),
    "a token": (typed(fields.Token), TOKEN),
    "a reason": (typed(fields.Reason), LINE),
    "a payment method's token": (typed(fields.CardToken), TOKEN),
    "a password": (passwords.as_compared, PASSWORD),
    "a password's strength": (passwords.check_password, PASSWORD),
    "a name": (identity.check_name, LINE),
    "an e-mail address": (email_addresses.as_kept, LINE),
    "the mailbox of an address": (email_addresses.mailbox, LINE),
    "whether an address is reached": (email_addresses.is_unreachable, LINE),
    "a text's key": (text.comparison_key.__wrapped__, PROSE),
    "a SKU's key": (catalog.sku_key, WORD),
    "a tracking number's key": (fulfilment.tracking_key, WORD),
    "what is seen of a text": (text.is_visible, PROSE),
    "a text without what is not seen": (text.without_ignorable, PROSE),
    "HTML entities": (text.unescaped, PROSE),
    "a checked text": (lambda value: text.check_text("title", value, PROSE), PROSE),
    "a search": (search_text.folded, QUERY),
    "a description that is indexed": (search_text.folded, PROSE),
    "what a search reads": (search_text.as_read, QUERY),
    "the trigrams of a title": (lambda value: search_text.trigrams(words.words(value)), LINE),
    "the words of prose": (words.words, PROSE),
    "the symbols of prose": (words.symbols, PROSE),
    "a highlighted title": (lambda value: Highlighter(["witcher"]).highlight(value), LINE),
    "a URL": (web_addresses.check_url, 2048),
    "a pattern of events": (
        lambda value: webhook_endpoints.matches(value, "order.completed.v1"),
        100,
    ),
    "If-Match": (answers.version_in, HEAD),
    "Prefer": (lambda value: answers.preference_in([value]), HEAD),
    "as_of": (reading._time.validate_strings, 64),
    "a signature": (lambda value: check_time(value, NOON), TOKEN),
    "a line of the log": (one_line, HEAD),
    "a CSV file": (lambda value: count(Records(value.splitlines(keepends=True))), FILE),
    "a CSV file of short lines": (
        lambda value: count(Records(re.findall(r".{1,7}", value))),
        FILE // 8,
    ),
}
"""The functions that process strangers' texts, and the most characters that each gets of one."""

TEXTS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "a" * n,
    "two kinds of marks": lambda n: "a" + "\u0301" * (n // 2) + "\u0323" * (n // 2),
    "marks in turn": lambda n: "a" + "\u0323\u0301" * (n // 2),
    "marks of one kind": lambda n: "\u0315" * n,
    "marks that decompose": lambda n: "\u0344" * n,
    "what NFKC makes 18 of": lambda n: "\ufdfa" * n,
    "Hangul in pieces": lambda n: "\u1100\u1161\u11a8" * (n // 3),
    "nothing that is seen": lambda n: "\u200b" * n,
    "blanks": lambda n: " " * n,
    "blanks and a letter": lambda n: " " * (n - 1) + "x",
    "line breaks": lambda n: "\r\n" * (n // 2),
    "digits": lambda n: "4" * n,
    "cards": lambda n: "4242 " * (n // 5),
    "cards with marks": lambda n: "4242-\u0301" * (n // 6),
    "half a UUID": lambda n: "01234567-89ab-" * (n // 14),
    "brackets": lambda n: "[" * n,
    "quotes": lambda n: '"' * n,
    "a quote that stays open": lambda n: '"' + "a,b\n" * (n // 4),
    "many that stay open": lambda n: '"a\n' * (n // 3),
    "ampersands": lambda n: "&" * n,
    "numbered entities": lambda n: "&#" + "1" * (n - 2),
    "an entity that does not end": lambda n: "&" + "a" * (n - 1),
    "entities": lambda n: "&amp;" * (n // 5),
    "dots": lambda n: "a." * (n // 2),
    "addresses": lambda n: "a@" * (n // 2),
    "labels": lambda n: "a@" + "xn--" * (n // 4),
    "commas": lambda n: "t=1,v1=" * (n // 7),
    "tags": lambda n: '"1",' * (n // 4),
    "waits": lambda n: "wait=1, " * (n // 8),
    "initials": lambda n: "x i v " * (n // 6),
    "Roman numerals": lambda n: "xxxiv" * (n // 5),
    "control characters": lambda n: "\x1b\n" * (n // 2),
    "humps": lambda n: "aB" * (n // 2),
    "slashes": lambda n: "https://" + "a/" * (n // 2),
}
"""Texts that were once found to cost more than they should."""

REFUSAL_SECONDS = 20e-6
"""The cost of raising a refusal, which may be due to the longer of two texts alone."""

GROWTH, TRIES, RUNS, AT_LEAST_SECONDS = 3.0, 10, 2, 0.0003


def cost(of: Filter, value: str) -> float:
    """The CPU time in seconds of so many calls that it can be measured; the least of some runs."""
    calls, seconds = 1, 0.0
    while True:
        seconds = min(_measured(of, value, calls) for _ in range(RUNS))
        if seconds >= AT_LEAST_SECONDS:
            return seconds / calls
        calls *= 4


def _measured(of: Filter, value: str, calls: int) -> float:
    gc.disable()  # which would scan what other tests have left
    try:
        start = process_time()
        for _ in range(calls):
            try:
                of(value)
            except Exception:  # refused or accepted, it was processed
                continue
        return process_time() - start
    finally:
        gc.enable()


@pytest.mark.parametrize("name", FILTERS)
def test_twice_the_text_costs_at_most_three_times_as_much(name: str) -> None:
    of, largest = FILTERS[name]
    for kind, make in TEXTS.items():
        ratios: list[float] = []
        while len(ratios) < TRIES and (not ratios or min(ratios) > GROWTH):
            ratios.append(
                (cost(of, make(largest)) - REFUSAL_SECONDS) / cost(of, make(largest // 2))
            )
        assert min(ratios) <= GROWTH, f"{name}, {kind}: {ratios}"


def test_the_growth_is_measured() -> None:
    def square(value: str) -> int:
        return sum(1 for _ in value for _ in value)

    assert cost(square, "a" * 400) / cost(square, "a" * 200) > GROWTH
    assert cost(html.escape, "<" * 20_000) / cost(html.escape, "<" * 10_000) < GROWTH


def test_whatever_normalizes_text_is_measured() -> None:
    root = Path(__file__).parents[1]
    ours = (
        "adapters",
        "api",
        "commands",
        "domain",
        "eventstore",
        "projections",
        "queries",
        "runtime",
    )
    normalizing = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for folder in ours
        for path in (root / folder).rglob("*.py")
        if "unicodedata.normalize(" in path.read_text()
    }
    measured = {getattr(of, "__module__", "") for of, _ in FILTERS.values()}
    assert normalizing - measured == set()
