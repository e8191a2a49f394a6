"""KurrentDB as the log of record, with PostgreSQL as its mirror (docs/kurrentdb.md)."""

import os

# Before grpc is imported, by whichever module of this folder: it would write lines of its own to
# stderr, among ours. What fails is raised.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
