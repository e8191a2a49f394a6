"""A process that owns an embedded PostgreSQL until its standard input ends: python
postgres_owner.py HOME [--leave-orphan]."""

import signal
import sys
from pathlib import Path

from adapters.postgres import unprivileged
from adapters.postgres.embedded import EmbeddedPostgres

if "--leave-orphan" in sys.argv:
    tied = unprivileged.child_setup
    unprivileged.child_setup = lambda **given: tied(**{**given, "dies_by": signal.SIGCONT})

with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
