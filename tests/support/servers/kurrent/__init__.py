"""A double of KurrentDB: a gRPC server that speaks its protocol and behaves as documented.

No KurrentDB server can be had where the tests run, so the client package's own protocol buffers are
served by `KurrentDouble`. What it does not do, and what nobody has compared with a real server, is
told in docs/kurrentdb.md.
"""

from tests.support.servers.kurrent.double import KurrentDouble

__all__ = ["KurrentDouble"]
