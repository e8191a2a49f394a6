"""A persistence module of the `eventsourcing` library: its applications on our log.

    PERSISTENCE_MODULE=adapters.eventsourcing_recorder

The database is named by the library's own variables (POSTGRES_DBNAME and so on). Each application
has a database of its own, as its events are all of the log's. See docs/eventsourcing-library.md.
"""

from threading import Lock
from typing import TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    InfrastructureFactory,
    ProgrammingError,
    Recorder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from adapters.eventsourcing_recorder.errors import translated
from adapters.eventsourcing_recorder.log_thread import LogThread
from adapters.eventsourcing_recorder.preparing import prepare, require_prepared, url_of
from adapters.eventsourcing_recorder.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogTrackingRecorder,
    SnapshotRecorder,
)

POOL_SIZE = 5
"""Connections for reading, unless POSTGRES_POOL_SIZE says otherwise: the library's default."""

AnyRecorder = TypeVar("AnyRecorder", bound=Recorder)


class LogFactory(InfrastructureFactory[LogTrackingRecorder]):
    """Makes the recorders of one application. They share a log, which is opened with the first of
    them and closed with the factory."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        """Raises OSError when the environment does not name a database that can be used."""
        super().__init__(env)
        self._url = url_of(self.env)
        self._pool_size = int(self.env.get("POSTGRES_POOL_SIZE") or POOL_SIZE)
        self._opening = Lock()
        self._log: LogThread | None = None

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """A recorder of events in the log; for any other purpose, one of snapshots beside it."""
        if purpose == "events":
            return LogAggregateRecorder(self._opened(), self.env.name)
        return SnapshotRecorder(self._opened(), f"{self.env.name}_{purpose}")

    def application_recorder(self) -> LogApplicationRecorder:
        """Raises ProgrammingError when the log is another application's."""
        recorder = self._class(self.APPLICATION_RECORDER_TOPIC, LogApplicationRecorder)
        return recorder(self._own(), self.env.name)

    def tracking_recorder(
        self, tracking_recorder_class: type[LogTrackingRecorder] | None = None
    ) -> LogTrackingRecorder:
        """A recorder of positions only, in the log."""
        if tracking_recorder_class is None:
            tracking_recorder_class = self._class(self.TRACKING_RECORDER_TOPIC, LogTrackingRecorder)
        return tracking_recorder_class(self._opened(), self.env.name)

    def process_recorder(self) -> LogProcessRecorder:
        """Raises ProgrammingError when the log is another application's."""
        recorder = self._class(self.PROCESS_RECORDER_TOPIC, LogProcessRecorder)
        return recorder(self._own(), self.env.name)

    def close(self) -> None:
        """Finish the appends under way, and close the log and all subscriptions."""
        with self._opening:
            if self._log is not None:
                self._log.close()

    def _class(self, variable: str, default: type[AnyRecorder]) -> type[AnyRecorder]:
        topic = self.env.get(variable)
        found = resolve_topic(topic) if topic else default
        if not (isinstance(found, type) and issubclass(found, default)):
            raise ProgrammingError(f"{variable}: {topic} is no {default.__name__}")
        return found

    def _opened(self) -> LogThread:
        with self._opening:
            if self._log is None:
                with translated():
                    if strtobool(self.env.get("CREATE_TABLE") or "yes"):
                        unsafe = self.env.get("LUDOTECA_ALLOW_UNSAFE_DATABASE") == "on"
                        prepare(self._url, allow_unsafe=unsafe)
                    else:
                        require_prepared(self._url)
                self._log = LogThread(self._url, self._pool_size)
            return self._log

    def _own(self) -> LogThread:
        """The log, if it is this application's or empty: two in one log would each see the other's
        events as their own."""
        opened = self._opened()
        owner, us = opened.call(opened.log.owner()), self.env.name
        if owner is not None and owner != us:
            raise ProgrammingError(
                f"the log belongs to the application {owner!r}: give {us!r} a database of its own"
                f" ({us.upper()}_POSTGRES_DBNAME)"
            )
        return opened


Factory = LogFactory
