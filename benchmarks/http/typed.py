"""What people type into a search field, made from titles by a seeded generator."""

import random
import re
import string
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

SEED = 1
MISTYPED = 0.125
"""The share of queries with a typo: 10 to 15 % of web queries have one (Cucerzan and Brill, 2004:
"Spelling correction as an iterative process that exploits the collective knowledge of web users").
"""

UNFINISHED = 0.25
"""The share of queries that end within a word."""

MAX_WORDS = 3

KNOWN = 10_000
"""How many different queries are repeated."""


def never_repeated(titles: Sequence[str]) -> Iterator[str]:
    """Queries of which none occurs twice: one to three words of a title, often its first ones."""
    chance, seen = random.Random(SEED), {""}
    while True:
        words = re.findall(r"[^\W_]+", chance.choice(titles))
        query = _typed(words, chance)
        if query not in seen and query.isascii():
            seen.add(query)
            yield query


def repeated(titles: Sequence[str]) -> Iterator[str]:
    """The same queries again and again, each as often as by Zipf's law: the nth most frequent one
    1/n as often as the most frequent one."""
    chance = random.Random(SEED)
    known = list(islice(never_repeated(titles), KNOWN))
    shares = list(accumulate(1 / place for place in range(1, KNOWN + 1)))
    while True:
        yield from chance.choices(known, cum_weights=shares, k=KNOWN)


def _typed(words: Sequence[str], chance: random.Random) -> str:
    start = chance.choice([0, 0, chance.randrange(len(words) or 1)])
    query = " ".join(words[start : start + chance.randint(1, MAX_WORDS)])
    way = chance.random()
    if way < MISTYPED:
        return _mistyped(query, chance)
    return query[: chance.randint(3, max(3, len(query)))] if way < MISTYPED + UNFINISHED else query


def _mistyped(query: str, chance: random.Random) -> str:
    """One letter replaced, left out, added, or swapped with the next."""
    at, letter = chance.randrange(len(query) or 1), chance.choice(string.ascii_lowercase)
    before, here, after = query[:at], query[at : at + 1], query[at + 1 :]
    return before + chance.choice(
        [letter + after, after, here + letter + after, after[:1] + here + after[1:]]
    )
