"""Reports: on the terminal, as JSON, and in a Markdown document."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table as Grid

from benchmarks.measuring import Line, Ratio, Table

HEADINGS = ("", "figure", "lowest – highest", "p50 ms", "p99 ms", "p99.9 ms", "beside its peers")
CPU = "CPU ms each"
"""The heading of one more column, where CPU was measured."""


class Report(msgspec.Struct, frozen=True):
    """A whole run: the machine, the number of rounds, and the tables."""

    machine: Mapping[str, str]
    rounds: int
    tables: Sequence[Table]


def machine(postgresql: Mapping[str, str]) -> Mapping[str, str]:
    """The machine and the versions, on which the figures depend."""
    packages = (
        "psycopg", "uvloop", "msgspec", "eventsourcing", "fastapi", "starlette", "uvicorn",
        "pydantic", "joserfc",
    )  # fmt: skip
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": (
            ", ".join(f"{name} {version(name)}" for name in packages) + f" ({psycopg.pq.__impl__})"
        ),
        "postgresql": ", ".join(f"{name} {value}" for name, value in postgresql.items()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (text.split(":")[1].strip() for text in lines if text.startswith("model name")),
        platform.machine(),
    )


def show(report: Report) -> None:
    console = Console(width=None if Console().is_terminal else 150)
    for name, value in report.machine.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(
        f"medians of {report.rounds} interleaved rounds; ratios are medians of the rounds' own"
        " ratios"
    )
    for table in report.tables:
        headings, *rows = _rows(table)
        grid = Grid(*headings, title=table.title, title_justify="left")
        for row in rows:
            grid.add_row(*row)
        console.print(grid)


def json(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def fill(path: Path, report: Report, name: str = "figures") -> None:
    """Replace the text between the marks with this name in a document. Raises ValueError when it
    has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{path} has no marks {begin} and {end}")
    path.write_text(f"{before}{begin}\n{markdown(report)}{end}{after}", encoding="utf-8")


def markdown(report: Report) -> str:
    """The figures as Markdown tables."""
    parts = [f"- {name}: {value}" for name, value in report.machine.items()]
    parts.append(f"- medians of {report.rounds} interleaved rounds")
    for table in report.tables:
        headings, *rows = _rows(table)
        ruler = "|---" + "|---:" * (len(headings) - 2) + "|---|"
        parts += ["", f"**{table.title}**", "", _row(headings), ruler, *map(_row, rows)]
    return "\n".join([*parts, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(table: Table) -> Sequence[Sequence[str]]:
    """The headings, and the lines."""
    cells = [HEADINGS, *map(_cells, table.lines)]
    if not any(line.cpu_ms for line in table.lines):
        return cells
    cpu = [CPU, *(_cpu(line) for line in table.lines)]
    return [(*row[:-1], more, row[-1]) for row, more in zip(cells, cpu, strict=True)]


def _cpu(line: Line) -> str:
    shown = ", ".join(f"{name} {ms:.2f}" for name, ms in line.cpu_ms.items())
    return f"{sum(line.cpu_ms.values()):.2f} ({shown})"


def _cells(line: Line) -> Sequence[str]:
    return (
        line.case,
        f"{_number(line.figure)} {line.unit}",
        f"{_number(line.lowest)} – {_number(line.highest)}",
        *("" if ms is None else f"{ms:.2f}" for ms in (line.p50_ms, line.p99_ms, line.p999_ms)),
        "; ".join(map(_ratio, line.ratios)),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _ratio(ratio: Ratio) -> str:
    shown = f"{ratio.ratio:.3g} × {ratio.peer}"
    if ratio.reached is None:
        return shown
    return f"{shown} (aim {ratio.aim}: {'reached' if ratio.reached else 'missed'})"
