"""PostgreSQL's own programs, which the package includes, run on the instance's database."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from adapters.postgres.programs import program, with_tls
from kit.children import command_that_ends_with_parent

READ_ONLY = "-c default_transaction_read_only=on"


def access(url: str, application: str, *, read_only: bool = False) -> tuple[str, Mapping[str, str]]:
    """How a program connects: the value of `--dbname`, and an environment with the password, as
    everybody on the machine can read command lines, and in which it can speak TLS.

    `read_only` guards against mistakes, not against intent (`SET default_transaction_read_only`).
    """
    parameters = conninfo_to_dict(url)
    password = parameters.pop("password", None)
    parameters.pop("sslpassword", None)  # libpq has no environment variable for it
    if read_only:
        parameters["options"] = (
            f"{parameters.get('options') or os.environ.get('PGOPTIONS', '')} {READ_ONLY}".strip()
        )
    environment = with_tls({**os.environ, "PGAPPNAME": application})
    if password:
        environment["PGPASSWORD"] = str(password)
    return make_conninfo(**parameters), environment  # type: ignore[arg-type]


def run(name: str, url: str, arguments: Sequence[str], *, read_only: bool) -> int:
    """Run a program with this process's terminal, input and output. Returns its exit code. Raises
    OSError."""
    where, environment = access(url, f"ludoteca {name}", read_only=read_only)
    with _ctrl_c_is_for_others():
        return subprocess.run(
            command_that_ends_with_parent([program(name), f"--dbname={where}", *arguments]),
            env=environment,
            check=False,
        ).returncode


@contextmanager
def _ctrl_c_is_for_others() -> Iterator[None]:
    """Ignore Ctrl-C in this process: psql ends a query by it, and continues."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
