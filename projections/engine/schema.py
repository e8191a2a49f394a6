"""Recreates the schema of the read models when it is lost: its rows follow from the log."""

import logging

import psycopg

from eventstore.database.postgres import ROLE, connect

logger = logging.getLogger(__name__)

_FIT = """
SELECT has_schema_privilege(%(role)s, to_regnamespace('read'), 'USAGE')
    AND has_schema_privilege(%(role)s, to_regnamespace('read'), 'CREATE')"""
_MAKE = ("CREATE SCHEMA IF NOT EXISTS read", f"GRANT USAGE, CREATE ON SCHEMA read TO {ROLE}")


def is_fit(conn: psycopg.Connection) -> bool:
    """Whether the schema exists, and the program's role may create tables in it."""
    row = conn.execute(_FIT, {"role": ROLE}).fetchone()
    return bool(row and row[0])


def make(conn: psycopg.Connection) -> None:
    """Create the schema, and let the program's role use it. The connection is of the login user,
    since the role may not do it. Raises psycopg.errors.InsufficientPrivilege."""
    for statement in _MAKE:
        conn.execute(statement.encode())


def see_to(url: str, conn: psycopg.Connection) -> None:
    """Create the schema if it is lost; if that is refused, log what to do. Raises psycopg.Error."""
    if is_fit(conn):
        return
    logger.error(
        "the schema `read` is lost, or cannot be written to: it is made anew, and its rows are"
        " folded anew"
    )
    try:
        with connect(url, "ludoteca", role="") as own:
            make(own)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UniqueViolation) as error:
        # another thread was first, or the right is missing
        logger.debug("the schema was not made: %s", error)
    if not is_fit(conn):
        logger.error("its owner, or who may create it, has to run: %s", "; ".join(_MAKE))
