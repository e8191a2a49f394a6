"""Shows a process's metrics over HTTP, for processes without a server of their own."""

import logging
import threading
from importlib.metadata import version

from prometheus_client import start_http_server

from kit.metrics import BUILD_INFO, REGISTRY
from runtime.settings import Settings

logger = logging.getLogger(__name__)


def name_build(process: str) -> None:
    """Have the metrics tell the release, and the kind of process (`worker`)."""
    BUILD_INFO.labels(version("ludoteca"), process).set(1)


def show_metrics(settings: Settings) -> None:
    """Show this process's metrics at LUDOTECA_METRICS_PORT, if it is set, until the process ends.

    On threads of their own, so that a process whose event loop is blocked still shows them. A port
    that is taken is logged: nothing stops because nobody can look at it.
    """
    if settings.metrics_port:
        # to listen looks up the host's name, which may take seconds
        threading.Thread(target=_listen, args=(settings,), name="metrics", daemon=True).start()


def _listen(settings: Settings) -> None:
    try:
        start_http_server(settings.metrics_port, settings.host, REGISTRY)
    except OSError as error:
        logger.warning(
            "metrics are not shown: port %s on %s cannot be listened on (%s);"
            " set LUDOTECA_METRICS_PORT to another",
            settings.metrics_port,
            settings.host,
            error.strerror or error,
        )
