"""The output of commands, and the logs of processes."""

import json
import logging

import pytest
import structlog

from runtime.output import console, logs
from runtime.settings import Settings


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = iter([0, 1, 6, 7, 12, 12, 20, 20])
    lines = console.ProgressLines(lambda: next(seconds))
    for done in (0, 100, 600, 700):
        lines("rebuild orders", done, 1000)
    lines("rebuild users", 10, 10)
    lines.finish()
    assert capsys.readouterr().err.splitlines() == [
        "rebuild orders: 600 of 1,000 (60 %), 100/s, 4 s left",
        "rebuild orders: 700 in 12.0 s",
        "rebuild users: 10 in 8.0 s",
    ]


def test_without_a_terminal_a_table_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("name", "rows"), [("x" * 300, 7), ("[bold]y", None)])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "rows"]
    assert first.split() == ["x" * 300, "7"]
    assert second.split() == ["[bold]y", "-"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_the_program_and_its_libraries_log_alike(
    log_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUDOTECA_LOG_FORMAT", log_format)
    logs.configure(Settings(), process="api")
    structlog.get_logger("adapters.x").warning("queue lost", queue="payments")
    logging.getLogger("uvicorn.error").info(
        "listening on %s", 8000, extra={"color_message": "in colour"}
    )
    logging.getLogger("httpx").info("GET /")
    logging.getLogger("projections").debug("too much")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert (out, len(lines)) == ("", 2)
    assert "in colour" not in err
    if log_format == "json":
        first, second = map(json.loads, lines)
        assert (first["event"], first["queue"], first["process"]) == (
            "queue lost",
            "payments",
            "api",
        )
        assert (second["event"], second["logger"], second["level"]) == (
            "listening on 8000",
            "uvicorn.error",
            "info",
        )
    else:
        assert "queue lost" in lines[0]
        assert "listening on 8000" in lines[1]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(
    log_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUDOTECA_LOG_FORMAT", log_format)
    logs.configure(Settings())

    def fail() -> None:
        password = "hunter" + "22"
        raise ValueError(len(password))

    try:
        fail()
    except ValueError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("y").exception("failed")
    logged = capsys.readouterr().err
    assert logged.count("ValueError: 8") == 2
    assert "hunter22" not in logged


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_strangers_send_forges_no_line(
    log_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUDOTECA_LOG_FORMAT", log_format)
    logs.configure(Settings())
    forged = "/x\n2026-01-01T00:00:00Z [info] all is well\r\x1b[2J\u2028\x85!"
    try:
        raise ValueError(forged)
    except ValueError:
        logging.getLogger("api.problems").exception("GET %s failed", forged)
    structlog.get_logger("x").warning(forged, path=forged)
    lines = capsys.readouterr().err.split("\n")

    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert not [line for line in lines if {"\r", "\x1b", "\u2028", "\x85"} & set(line)]
    assert len([line for line in lines if "all is well" in line]) >= 2
