"""Changing the log as nobody may."""

import psycopg


def tamper(url: str, statement: str, *values: object) -> None:
    """Change a database as the program never does: as its owner and past its triggers."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        assert conn.execute(statement.encode(), values).rowcount != 0
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")
