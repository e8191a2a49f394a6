"""The carrier's page: the parcels in transit, each with a button, and the notices under way. Plain
HTML, no script."""

from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

from adapters.carrier.simulator.parcels import Parcel
from adapters.carrier.simulator.store import UnderWay

_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parcels</title>
<style>
  :root {{ color-scheme: light dark; --ground: #f3f4f6; --card: #fff; --ink: #111827;
    --muted: #4b5563; --line: #e5e7eb; --accent: #1d4ed8; }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ground: #12131a; --card: #1b1d27; --ink: #ebebf2; --muted: #a5a9bb;
      --line: #2d3040; --accent: #2f5fe0; }}
  }}
  body {{ font: 1rem/1.5 system-ui, sans-serif; background: var(--ground); color: var(--ink);
    margin: 0; padding: 1rem; }}
  main {{ max-width: 46rem; margin: 5vh auto; padding: 2rem; background: var(--card);
    border-radius: .75rem; box-shadow: 0 1px 6px #0002; }}
  h1 {{ font-size: 1.4rem; margin-top: 0; }}
  h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: start; padding: .4rem .8rem .4rem 0;
    border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }}
  th {{ color: var(--muted); font-size: .875rem; }}
  button {{ font: inherit; padding: .3rem 1rem; border-radius: .5rem;
    border: 1px solid var(--accent); background: var(--accent); color: #fff; cursor: pointer; }}
  small {{ color: var(--muted); }}
  @media (max-width: 40rem) {{ /* the cells of a parcel below each other */
    main {{ padding: 1.25rem; }}
    thead {{ display: none; }}
    tr, td {{ display: block; }}
    tr {{ border-bottom: 1px solid var(--line); padding: .75rem 0; }}
    td {{ border: 0; padding: .15rem 0; }}
  }}
</style>
</head>
<body><main>
<h1>Parcels in transit</h1>
{parcels}
{notices}
<p><small>This is a simulated carrier. No parcel moves.</small></p>
</main></body>
</html>
"""


def parcels(in_transit: Sequence[Parcel], under_way: Sequence[UnderWay]) -> str:
    """All parcels, and the notices that the shop has not accepted yet."""
    told = {each.delivery.shipment_id for each in under_way}
    rows = [_parcel(each) for each in in_transit if each.shipment_id not in told]
    return _LAYOUT.format(
        parcels=_table(("Carrier", "Tracking number", "Handed over (UTC)", ""), rows)
        if rows
        else "<p>None. A parcel appears here once its seller has handed it over.</p>",
        notices="<h2>The shop has not heard yet of</h2>\n"
        + _table(("Tracking number", "Delivered (UTC)", "Told", ""), map(_notice, under_way))
        if under_way
        else "",
    )


def _parcel(parcel: Parcel) -> tuple[str, ...]:
    return (
        escape(parcel.carrier),
        escape(parcel.tracking_number),
        f"{parcel.shipped_at:%Y-%m-%d %H:%M}",
        _button(parcel.tracking_number, "Delivered"),
    )


def _notice(each: UnderWay) -> tuple[str, ...]:
    times = "once" if each.attempts == 1 else f"{each.attempts} times"
    return (
        escape(each.delivery.tracking_number),
        f"{each.delivery.delivered_at:%Y-%m-%d %H:%M}",
        f"{times}, given up" if each.given_up else times,
        _button(each.delivery.tracking_number, "Tell again"),
    )


def _button(tracking_number: str, name: str) -> str:
    """A button, which screen readers name with the parcel."""
    action = f"parcels/{quote(tracking_number, safe='')}/delivered"
    label = escape(f"{name}: {tracking_number}")
    return (
        f'<form method="post" action="{escape(action)}"><button aria-label="{label}">'
        f"{name}</button></form>"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{each}</th>' for each in heads if each) + "<td></td>"
    body = "\n".join(f"<tr>{''.join(f'<td>{each}</td>' for each in row)}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
