"""How many connections to PostgreSQL the processes of `ludoteca run` may take, and whether the
server has that many."""

import logging

from eventstore.database.postgres import connect
from runtime.settings import Settings

logger = logging.getLogger(__name__)

API, WORKER, PROJECTOR = 6, 9, 6
"""What a process of each kind takes besides its pool: for writing, watching, following the log,
leading, waiting for jobs, auditing, and building past read models."""

OTHERS = 20
"""For the simulators, commands, rebuilds and backups, and the one build of past read models that
has its turn."""


def connections_needed(settings: Settings) -> int:
    """The most that all processes together take."""
    return (
        settings.api_processes * (settings.pool_size + API)
        + settings.worker_processes * (settings.pool_size + WORKER)
        + settings.projector_processes * PROJECTOR
        + OTHERS
    )


def warn_of_too_few(url: str, settings: Settings) -> None:
    """Log a warning if the server accepts fewer connections than needed."""
    needed = connections_needed(settings)
    with connect(url, "ludoteca", role="") as conn:
        row = conn.execute("SELECT current_setting('max_connections')::int").fetchone()
    if row is not None and row[0] < needed:
        logger.warning(
            "PostgreSQL accepts %d connections (max_connections), and these processes may take %d:"
            " raise it, or lower LUDOTECA_POOL_SIZE",
            row[0],
            needed,
        )
