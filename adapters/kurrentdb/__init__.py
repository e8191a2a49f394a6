"""KurrentDB as the log of record, with PostgreSQL as its mirror (docs/kurrentdb.md)."""
