"""The projector: keeps the read models up to date with the log."""

import threading
from collections.abc import Sequence

from eventstore.database.postgres import connect
from eventstore.database.release import require_current
from projections.engine.runner import Registered, Runner
from projections.registry import read_models
from runtime.processes.garbage import collect_rarely
from runtime.processes.running import when_asked_to_stop
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.search import search_models


def run_projector(settings: Settings, url: str) -> None:
    """Keep the read models up to date, with one thread for the tables and one for each search
    index. Raises OutdatedRelease."""
    groups: list[Sequence[Registered]] = [
        read_models(),
        *([model] for model in search_models(settings)),
    ]
    runners = [Runner(url, codec(), group) for group in groups]
    threads = [
        threading.Thread(target=runner.run, name=f"projector-{n}")
        for n, runner in enumerate(runners)
    ]
    stopping = threading.Event()
    when_asked_to_stop(stopping.set)
    collect_rarely()
    for thread in threads:
        thread.start()
    while not stopping.wait(1.0) and all(thread.is_alive() for thread in threads):
        pass
    for runner in runners:
        runner.stop()
    for thread in threads:
        thread.join()
    if not stopping.is_set():  # a thread ended by itself: report why, in the exit code too
        with connect(url, "ludoteca projector") as conn:
            require_current(conn)
