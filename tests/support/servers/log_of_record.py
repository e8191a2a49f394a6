"""Where the logs of the tests are: in PostgreSQL; with `pytest --kurrentdb` in a KurrentDB double
each, so that suites which were written for PostgreSQL's log run on KurrentDB's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

KURRENTDB_URL = "LUDOTECA_KURRENTDB_URL"

kurrentdb_everywhere = False


@contextmanager
def log_of_record(database: str, *, mirror: bool) -> Iterator[None]:
    """The log of a database, for as long as it is used. A KurrentDB gets a mirror in this process,
    or the caller starts one. One that the environment names already stays."""
    if not kurrentdb_everywhere or KURRENTDB_URL in os.environ:
        yield
        return
    from tests.support.servers.mirrored import (  # loads gRPC
        all_were_decided_there,
        mirrored,
        mirroring,
    )

    with mirrored() as kurrent, mirroring(kurrent.url, database) if mirror else nullcontext():
        yield
        assert all_were_decided_there(kurrent, database)
