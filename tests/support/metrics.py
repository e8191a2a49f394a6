"""What this process's metrics say."""

from kit.metrics import REGISTRY


def calls_counted(server: str, outcome: str) -> float:
    """How many calls of a server ended so."""
    labels = {"server": server, "outcome": outcome}
    return REGISTRY.get_sample_value("ludoteca_call_seconds_count", labels) or 0.0
