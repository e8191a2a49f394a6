"""Errors that end a command without a traceback: their message for people, and their exit code for
scripts."""

import difflib
import errno
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kit.wording import reason
from runtime.output.console import Code

if TYPE_CHECKING:
    from pydantic import ValidationError


class Failure(Exception):
    """The command cannot do what was asked. Has a message that says what to do, and the exit
    code."""

    def __init__(self, message: str, code: Code = Code.DIFFERS) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def unknown(kind: str, name: str, known: Iterable[str]) -> Failure:
    """The failure for an unknown name, with the name that was probably meant and all existing
    names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return Failure(
        f"there is no {kind} {name}{meant}; there are: {', '.join(names) or 'none'}", Code.USAGE
    )


# (module, class, exit code, whose trouble it is). By module's name, so that explaining an error
# imports nothing: an error's module is loaded. The first match counts.
_EXPLAINED: tuple[tuple[str, str, Code, str], ...] = (
    ("runtime.database.instance", "NotRunning", Code.UNREACHABLE, ""),
    ("runtime.supervision.supervisor", "CannotStart", Code.UNREACHABLE, ""),
    ("runtime.wiring.log_of_record", "WrongLog", Code.USAGE, ""),
    ("runtime.wiring.master_key", "WrongMasterKey", Code.UNREACHABLE, ""),
    ("eventstore.master_keys", "MasterKeyMissing", Code.UNREACHABLE, ""),
    ("adapters.kurrentdb.log_copy", "CopyError", Code.DIFFERS, ""),
    ("runtime.host.home", "NotAHome", Code.USAGE, ""),
    ("runtime.host.listening", "CannotListen", Code.UNREACHABLE, ""),
    ("runtime.processes.certificates", "BadCertificate", Code.USAGE, ""),
    ("runtime.backup.manifest", "BackupError", Code.DIFFERS, ""),
    ("runtime.archive.lines", "ArchiveFault", Code.DIFFERS, ""),
    ("runtime.archive.loading", "LogDoesNotFit", Code.DIFFERS, ""),
    ("runtime.archive.writing", "BrokenLog", Code.DIFFERS, ""),
    ("runtime.processes.watching", "WriterDead", Code.UNREACHABLE, ""),
    ("runtime.load", "Stalled", Code.UNREACHABLE, ""),
    ("runtime.load", "UnreadableFile", Code.USAGE, ""),
    ("adapters.postgres.embedded", "EmbeddedPostgresError", Code.UNREACHABLE, ""),
    ("eventstore.database.migrations", "MigrationError", Code.UNREACHABLE, ""),
    ("eventstore.database.release", "OutdatedRelease", Code.UNREACHABLE, ""),
    ("eventstore.database.postgres", "UnsafeDatabase", Code.UNREACHABLE, ""),
    ("eventstore.log", "LogUnavailable", Code.UNREACHABLE, ""),
    ("eventstore.proofs.heads", "LogChanged", Code.DIFFERS, ""),
    ("eventstore.proofs.tree", "TreeDamaged", Code.DIFFERS, ""),
    ("eventstore.proofs.signing", "NothingToSign", Code.DIFFERS, ""),
    (
        "psycopg.errors",
        "InsufficientPrivilege",
        Code.UNREACHABLE,
        "the database's user lacks a right: ",
    ),
    ("psycopg", "OperationalError", Code.UNREACHABLE, "the database: "),
    (
        "aio_pika.exceptions",
        "AMQPError",
        Code.UNREACHABLE,
        "the RabbitMQ of LUDOTECA_RABBITMQ_URL: ",
    ),
    (
        "elastic_transport",
        "TransportError",
        Code.UNREACHABLE,
        "the Elasticsearch of LUDOTECA_ELASTICSEARCH_URL: ",
    ),
    ("commands.ports.fiscal", "OperatorUnavailable", Code.UNREACHABLE, "the fiscal operator: "),
    ("commands.ports.fiscal", "OperatorRefused", Code.DIFFERS, "the fiscal operator: "),
    ("commands.ports.payments", "ProviderUnavailable", Code.UNREACHABLE, "the payment provider: "),
    ("commands.ports.payments", "ProviderRefused", Code.DIFFERS, "the payment provider: "),
    ("projections.engine.folding", "StoreFailed", Code.UNREACHABLE, ""),
    ("projections.engine.folding", "RowsRefused", Code.DIFFERS, ""),
    ("builtins", "ConnectionError", Code.UNREACHABLE, ""),
    ("queries.trace.flow", "NothingToTrace", Code.DIFFERS, ""),
    ("queries.engine.positions", "ReadModelBehind", Code.UNREACHABLE, "is a projector running? "),
    ("queries.audit.why", "NoSuchRow", Code.DIFFERS, ""),
    ("queries.audit.why", "Unanswerable", Code.USAGE, ""),
    ("domain.errors", "Invalid", Code.USAGE, ""),
    ("domain.errors", "Refused", Code.DIFFERS, ""),
)


_OF_AN_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO, errno.EROFS}
"""System errors of writing to an open output. An error without a file name that is none of these is
about a server, or the input."""


def explain(error: Exception) -> Failure | None:
    """The failure for an expected error; None for a bug, which deserves its traceback."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, ExceptionGroup):
        found = [explain(each) for each in error.exceptions]
        return found[0] if all(found) else None
    if _is(error, "pydantic", "ValidationError") and getattr(error, "title", "") == "Settings":
        return Failure(_settings_message(error), Code.USAGE)  # type: ignore[arg-type]
    for module, name, code, whose in _EXPLAINED:
        if _is(error, module, name):
            return Failure(whose + reason(error), code)
    if isinstance(error, OSError):
        return Failure(_system_message(error), Code.UNREACHABLE)
    return None


def _system_message(error: OSError) -> str:
    """What the system refused, and for which file."""
    if error.filename:
        return f"{os.fsdecode(error.filename)}: {reason(error)}"
    is_of_output = error.errno in _OF_AN_OUTPUT
    return f"cannot write the output: {reason(error)}" if is_of_output else reason(error)


def _is(error: Exception, module: str, name: str) -> bool:
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(error, cls)


def _settings_message(error: "ValidationError") -> str:
    """A line for each variable. Values of secrets are not repeated."""
    from runtime.settings import Settings

    lines = []
    for found in error.errors():
        message = found["msg"].removeprefix("Value error, ")
        if not found[
            "loc"
        ]:  # about several settings, or about another variable, which the message names
            lines.append(message)
            continue
        name = str(found["loc"][0])
        field = Settings.model_fields.get(name)
        may_quote = (
            field is not None
            and "Secret" not in str(field.annotation)
            and not _may_hold_a_secret(found["input"])
        )
        lines.append(
            f"LUDOTECA_{name.upper()}: {message}"
            + (f" (it is {found['input']!r})" if may_quote else "")
        )
    return "\n".join(lines)


def _may_hold_a_secret(value: object) -> bool:
    """Whether a value looks like a URL with a password, even a malformed one
    (http://user:password)."""
    text = str(value)
    return "@" in text or ":" in (text.partition("://")[2] or text)
