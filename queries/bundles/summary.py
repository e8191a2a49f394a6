"""The summary of a bundle for people: one page of HTML that needs nothing else."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from eventstore.proofs.notes import Note
from queries.bundles.contents import Document, Manifest, proof_file

_STYLE = """
body { font: 15px/1.45 Georgia, serif; max-width: 62em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; width: 100%; margin: 1em 0 }
th, td { border: 1px solid #bbb; padding: .3em .5em; text-align: left; vertical-align: top }
th { background: #f2f2f2 } td.n { text-align: right }
code { font-size: 12px; word-break: break-all }
"""

_INTRODUCTION = """
This file is one of an evidence bundle. The bundle has a proof of every event below, which anybody
can check without the shop: that the event is in the shop's log at this position, and that nothing
in it was changed since the checkpoint was signed. It does not prove that an event is true, only
that it was recorded so; nor that the checkpoint is the only one, unless somebody else holds it.
"""

_CHECKING = """
<code>ludoteca audit check-bundle FILE.zip --key KEY</code> checks all of it. The key is the shop's
public one, which must come from elsewhere than this bundle. docs/proofs.md of the program
describes each file, and has a program of 60 lines that checks a proof.
"""


def summary(
    manifest: Manifest,
    note: Note,
    tables: Mapping[str, Sequence[Document]],
    meaning: Callable[[str], str],
) -> bytes:
    """The page, from what the proofs say; `meaning` tells what an event of a name is."""
    subject, checkpoint = manifest.subject, note.checkpoint
    title = f"{subject.kind.capitalize()} {subject.id}"
    signers = ", ".join(f"{each.name}+{each.key_id.hex()}" for each in note.signatures)
    about = [
        ("Made", _shown(manifest.made_at)),
        ("Log", checkpoint.origin),
        ("Checkpoint", f"{checkpoint.size} events, root {checkpoint.root.hex()}"),
        ("Signed by", signers),
        ("Events", str(len(manifest.positions))),
    ]
    if manifest.left_out:
        about.append(("Left out", f"{manifest.left_out} earlier events: they were too many"))
    events = [
        {
            "position": row["position"],
            "at": row["at"],
            "what happened": meaning(row["name"]),
            "details": _details(row["payload"]),
            "event": row["name"],
            "by": row["actor"],
            "proof": proof_file(row["position"]),
        }
        for row in tables["events"]
    ]
    parts = [
        f"<h1>{escape(title)}</h1><p>{_INTRODUCTION}</p>",
        _table([{"": name, "value": value} for name, value in about]),
        "<h2>What happened</h2>" + _table(events),
        _section("Ledger entries", tables["ledger"]),
        _section("Receipts", tables["receipts"]),
        _section("Notices of the payment provider and of carriers", tables["notices"]),
        _section("Messages", tables["mails"]),
        f"<h2>How to check</h2><p>{_CHECKING}</p>",
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )
    return page.encode()


_TOLD = (
    *("total_cents", "amount_cents", "balance_cents", "owed_cents", "currency", "status", "title"),
    *("code", "reason", "outcome", "number", "year", "provider", "provider_ref", "template"),
)
"""The fields of events that are told in a line, where they have them. None of them is personal."""


def _details(payload: Document) -> str:
    found = ((name, payload.get(name)) for name in _TOLD)
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in found if isinstance(value, str | int)
    )


def _section(title: str, rows: Sequence[Document]) -> str:
    return f"<h2>{title}</h2>" + (_table(rows) if rows else "<p>None.</p>")


def _table(rows: Sequence[Document]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(name)) for name in names) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    kind = ' class="n"' if isinstance(value, int) and not isinstance(value, bool) else ""
    return f"<td{kind}>{escape(_shown(value))}</td>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value)
