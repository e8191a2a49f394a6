"""Where the processes of `ludoteca run` show their metrics."""

from collections.abc import Iterable, Mapping

from runtime.host.listening import bind, is_free
from runtime.settings import Settings
from runtime.settings.values import beside, http_url

DISTANCE = 4000
"""From the API's port to the first of the metrics', unless LUDOTECA_METRICS_PORT names it."""


def metrics_ports(settings: Settings, names: Iterable[str]) -> dict[str, int]:
    """A port for each of these processes: from LUDOTECA_METRICS_PORT on, those that are free."""
    simulators = (settings.provider_port, settings.fiscal_port, settings.carrier_port)
    taken = {settings.port, *simulators}
    wanted = settings.metrics_port or beside(settings.port, DISTANCE)
    ports: dict[str, int] = {}
    for name in names:
        while wanted < 65536 and (wanted in taken or not is_free(settings.host, wanted)):
            wanted += 1
        ports[name] = wanted if wanted < 65536 else bind(settings.host, 0)
        wanted += 1
    return ports


def metrics_urls(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    """The URL of each process's metrics. API processes share theirs."""
    others = {name: f"{http_url(settings.host, port)}/metrics" for name, port in ports.items()}
    return {"api": f"{settings.local_url}/metrics", **others}
