"""Searches files and databases for texts and bytes, in the forms in which they may be stored."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

_TABLES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('information_schema', 'pg_catalog') OR tablename = 'pg_statistic'
"""


def forms(value: str | bytes) -> list[bytes]:
    """The value as it is (UTF-8, UTF-16), in hex and base64, and as in JSON and URLs."""
    encoded = value.encode() if isinstance(value, str) else value
    found = {encoded, encoded.hex().encode(), encoded.hex().upper().encode(), *_base64(encoded)}
    if isinstance(value, str):
        found |= {value.encode("utf-16-le"), value.encode("utf-16-be")}
        found |= {json.dumps(value)[1:-1].encode(), quote(value).encode()}
        found |= {value.lower().encode(), value.upper().encode()}
    return sorted(found)


def _base64(value: bytes) -> Iterable[bytes]:
    """The value in base64 at each of the three places where it may begin, without the characters
    at both ends that depend on its neighbours."""
    for before in range(3):
        text = b64encode(bytes(before) + value)
        start, end = (0, 2, 3)[before], (len(value) + before) * 8 // 6
        yield text[start:end]


Needles = Mapping[str, list[bytes]]
"""What is searched for, by name."""


def needles(**values: str | bytes) -> Needles:
    """All forms of these values."""
    return {name: forms(value) for name, value in values.items()}


def in_files(folder: Path, wanted: Needles) -> dict[str, set[str]]:
    """The files under a folder in which something wanted is, by what it is."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # of PostgreSQL's, meanwhile removed
        for name in matching(content, wanted):
            found.setdefault(name, set()).add(str(path.relative_to(folder)))
    return found


def in_database(url: str, wanted: Needles) -> dict[str, set[str]]:
    """The tables in which something wanted is in any column, by what it is."""
    found: dict[str, set[str]] = {}
    with psycopg.connect(url) as conn:
        for schema, table in conn.execute(_TABLES).fetchall():
            query = sql.SQL("SELECT string_agg(t::text, chr(10)) FROM {} t")
            row = conn.execute(query.format(sql.Identifier(schema, table))).fetchone()
            content = (row[0] or "").encode() if row else b""
            for name in matching(content, wanted):
                found.setdefault(name, set()).add(f"{schema}.{table}")
    return found


def matching(content: bytes, wanted: Needles) -> Iterable[str]:
    """What is wanted that the content has."""
    return [name for name, each in wanted.items() if any(form in content for form in each)]
