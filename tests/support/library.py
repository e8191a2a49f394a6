"""The `eventsourcing` library's settings for our persistence module."""

from psycopg.conninfo import conninfo_to_dict


def environment(url: str) -> dict[str, str]:
    """The variables that put an application's events into our log in a database."""
    where = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "adapters.eventsourcing_recorder",
        "POSTGRES_DBNAME": str(where["dbname"]),
        "POSTGRES_HOST": str(where.get("host", "")),
        "POSTGRES_PORT": str(where.get("port", "5432")),
        "POSTGRES_USER": str(where["user"]),
        "POSTGRES_PASSWORD": str(where.get("password", "")),
        "LUDOTECA_ALLOW_UNSAFE_DATABASE": "on",  # the tests' PostgreSQL does not wait for the disk
    }
