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
  body {{ font: 1.1rem/1.5 system-ui, sans-serif; background: #f3f4f6; color: #111827; margin: 0; }}
  main {{ max-width: 50rem; margin: 3rem auto; padding: 2rem; background: #fff;
    border-radius: .75rem; box-shadow: 0 1px 6px #0002; overflow-x: auto; }}
  h1 {{ font-size: 1.4rem; margin-top: 0; }}
  h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: start; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #e5e7eb; }}
  button {{ font: inherit; padding: .3rem 1rem; border-radius: .5rem; border: 1px solid #1d4ed8;
    background: #1d4ed8; color: #fff; cursor: pointer; }}
  small {{ color: #4b5563; }}
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
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
