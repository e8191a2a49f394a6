"""Logging: structlog's loggers and the standard library's (uvicorn's included) in one format, on
stderr."""

import logging
import sys
from io import StringIO
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from adapters.text_log import one_line
from runtime.output import console, log_stream
from runtime.settings import Settings
from runtime.settings.variables import unknown_settings

_CHATTY = ("httpx", "httpcore", "elastic_transport", "aio_pika", "aiormq", "aiokafka", "stripe")
"""Loggers that report every request and every reconnect. Their level is one higher than the
others'."""


def configure(settings: Settings, *, process: str = "", level: int = logging.INFO) -> None:
    """Set up logging as LUDOTECA_LOG_FORMAT says: lines for people, or one JSON object per line.
    May be called repeatedly.

    `process` is shown in every line, since the processes of `ludoteca run` share a terminal. A
    named process is long-running, so it must never block on whoever reads its output. Environment
    variables that look like settings but are not are reported.
    """
    stream = log_stream.install(dropped_lines(settings) / process) if process else None
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(process),
    ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_colour_codes,
                *_rendering(settings),
            ],
        )
    )
    if stream:
        stream.notice = lambda lines: handler.format(_notice(lines)) + "\n"
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not _ours(kept)] + [handler]
    root.setLevel(level)
    # uvicorn may have set up its own before
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        server = logging.getLogger(name)
        server.handlers = []
        server.propagate = True
        server.disabled = False
        server.setLevel(logging.NOTSET)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(level + 10)
    # logs a stack for every attempt; the code that retries reports it, too
    logging.getLogger("elastic_transport.node_pool").setLevel(level + 20)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    for line in unknown_settings().values():
        logging.getLogger(__name__).warning(line) if process else console.note(line)


def dropped_lines(settings: Settings) -> Path:
    """The folder with the counts of dropped log lines, in a file for each kind of process."""
    return settings.home / "logs" / "dropped"


def begin_counting(settings: Settings, process: str) -> None:
    """Show 0 dropped lines of a process that has dropped none, in the HOME that is there: to
    Prometheus, a counter that appears with its first number has not increased."""
    count_file = dropped_lines(settings) / process
    if not count_file.exists():
        log_stream.add_to(count_file, 0)


def _notice(lines: int) -> logging.LogRecord:
    text = "%d lines of the log were dropped here, since nobody read them"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lines,), None)


def _ours(handler: logging.Handler) -> bool:
    return isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)


def _naming(process: str) -> Processor:
    def name(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if process:
            event["process"] = process
        return event

    return name


def _without_colour_codes(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # a second copy of uvicorn's message
    return event


def _without_control_characters(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    """Keep values from strangers in their line: a path with a line break must not look like an
    entry of its own. JSON escapes it anyway."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = one_line(value)
    return event


def _indented_traceback(to: TextIO, exc_info: ExcInfo) -> None:
    """A traceback none of whose lines can look like a log entry, whatever the exceptions' messages
    contain."""
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    lines = text.getvalue().strip().splitlines()
    to.write("".join(f"\n    {one_line(line)}" for line in lines))


def _rendering(settings: Settings) -> list[Processor]:
    """The last processors. Tracebacks are plain, as those with local variables would reveal
    secrets."""
    if settings.log_format == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    return [
        _without_control_characters,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=_indented_traceback, pad_event_to=0
        ),
    ]
