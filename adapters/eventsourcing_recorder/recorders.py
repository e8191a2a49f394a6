"""The library's recorders over the log.

Versions and payloads are the application's own; a topic is an event's name; a notification's id is
the event's position. What a process application has handled of another application is an event,
too, in a stream of its own, so that it is appended together with what followed from it. It is no
notification.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid5

import msgspec
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    IntegrityError,
    InterfaceError,
    ListenNotifySubscription,
    Notification,
    PersistenceError,
    ProcessRecorder,
    Recorder,
    ShutDown,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from adapters.eventsourcing_recorder import snapshots
from adapters.eventsourcing_recorder.errors import translated
from adapters.eventsourcing_recorder.log_thread import LogThread
from adapters.eventsourcing_recorder.opaque_log import ENDLESS, Opaque, OpaqueLog
from eventstore.decoding import Raw

TRACKING = "eventsourcing.tracking"
"""The name of the event that another application's notification was handled. No topic has it: a
topic has a colon."""

_TRACKED = UUID("6f1c8a0e-5d0b-4c39-9b7e-2f6a4f0f8f11")
"""The namespace of their streams."""


class LogRecorder(Recorder):
    """What all recorders of an application share."""

    def __init__(self, thread: LogThread, application: str) -> None:
        self.thread = thread
        self.application = application

    @property
    def log(self) -> OpaqueLog:
        """To be used in the log's own thread."""
        return self.thread.log

    def _insert(self, events: Sequence[StoredEvent]) -> Sequence[int]:
        if not events:
            return []
        return self.thread.call(self.log.insert(self.application, opaque(events)))


class LogAggregateRecorder(LogRecorder, AggregateRecorder):
    """Events of aggregates, in the log."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Append events, all or nothing.

        Raises IntegrityError unless each aggregate's events continue it without a gap; DataError
        for what is too large; OperationalError when the outcome is unknown.
        """
        self._insert(stored_events)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """An aggregate's events with gt < version ≤ lte."""
        events = self.thread.call(
            self.log.stream(
                stream_of(originator_id),
                gt=-1 if gt is None else gt,
                lte=ENDLESS if lte is None else lte,
                desc=desc,
                limit=limit,
            )
        )
        return [StoredEvent(e.stream_id, e.version, e.name, e.payload) for e in events]


class LogApplicationRecorder(LogAggregateRecorder, ApplicationRecorder):
    """Events of an application, in one order, as notifications."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """As `LogAggregateRecorder.insert_events`. Returns the notifications' ids."""
        return self._insert(stored_events)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Notifications from `start` to `stop`, at most `limit`."""
        after = 0 if start is None else start - inclusive_of_start
        upto = ENDLESS if stop is None else stop
        return self.page(after, upto, limit, topics)[0]

    def page(
        self, after: int, upto: int, limit: int, topics: Sequence[str]
    ) -> tuple[list[Notification], int]:
        """Notifications with after < id ≤ upto, and the id up to which that is complete."""
        found, end = self.thread.call(
            self.log.page(after, upto, limit=limit, names=topics, but=TRACKING)
        )
        return [notification(raw) for raw in found], end

    def max_notification_id(self) -> int | None:
        """The last notification's id; None when there is none."""
        return self.thread.call(self.log.last(but=TRACKING))

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """All notifications after `gt`: existing ones, then new ones as they are recorded."""
        return LogSubscription(self, gt, topics)


class LogSubscription(ListenNotifySubscription[LogApplicationRecorder]):
    """Notifications, pulled whenever the log's watcher sees that it has grown."""

    def __init__(
        self, recorder: LogApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        self._position = self._head = gt or 0
        self._watching: Future[None] | None = None
        super().__init__(recorder, gt, topics)
        try:
            self._watching = recorder.thread.start(self._watch())
        except InterfaceError:
            self.stop()
            raise

    def stop(self) -> None:
        super().stop()
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        log = self._recorder.log
        generation = log.history.generation
        try:
            while not self._has_been_stopped:
                with translated():
                    self._head = await log.watcher.beyond(self._head, generation)
                self._has_been_notified.set()
        except PersistenceError as error:
            self._thread_error = self._thread_error or error
        finally:
            super().stop()

    def _pull(self) -> None:
        """As the library's, but remembers how far it has read, not only the last notification that
        it found: what is no notification, or of another topic, is not read again."""
        while not self._has_been_stopped:
            self._has_been_notified.clear()
            head = self._head
            found, self._position = self._recorder.page(
                self._position, head, self._select_limit, self._topics
            )
            if found:
                try:
                    self._notifications_queue.put(found)
                except ShutDown:
                    return
            if self._position >= head:
                return


class LogTrackingRecorder(LogRecorder, TrackingRecorder):
    """How far notifications of other applications were handled."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Raises IntegrityError unless it is beyond what was handled before."""
        self.thread.call(self._insert_tracked((), tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The last notification that was handled; None when there is none."""
        last = self.thread.call(self._last_tracked(application_name))
        return None if last is None else handled(last)

    async def _insert_tracked(
        self, events: Sequence[StoredEvent], tracking: Tracking
    ) -> Sequence[int]:
        last = await self._last_tracked(tracking.application_name)
        if last is not None and handled(last) >= tracking.notification_id:
            raise IntegrityError(
                f"notification {tracking.notification_id} of {tracking.application_name} was"
                f" handled before: the last one was {handled(last)}"
            )
        tracked = Opaque(
            self._tracked(tracking.application_name),
            1 if last is None else last.version + 1,
            TRACKING,
            msgspec.json.encode(tracking),
        )
        # two that handle the same one append to the same version: the log takes one of them
        positions = await self.log.insert(self.application, [*opaque(events), tracked])
        return positions[:-1]

    async def _last_tracked(self, application_name: str) -> Opaque | None:
        stream_id = self._tracked(application_name)
        events = await self.log.stream(stream_id, gt=0, lte=ENDLESS, desc=True, limit=1)
        return events[0] if events else None

    def _tracked(self, application_name: str) -> UUID:
        return uuid5(_TRACKED, f"{self.application}\n{application_name}")


class LogProcessRecorder(LogTrackingRecorder, LogApplicationRecorder, ProcessRecorder):
    """Events of a process application, each together with the notification that it follows from."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """As `LogApplicationRecorder.insert_events`; `tracking` is the notification from which the
        events follow. Raises IntegrityError if it was handled before."""
        tracking: Tracking | None = kwargs.get("tracking")
        if tracking is None:
            return self._insert(stored_events)
        return self.thread.call(self._insert_tracked(stored_events, tracking))


class SnapshotRecorder(LogRecorder, AggregateRecorder):
    """Snapshots of aggregates, beside the log: they are no events, and may be lost. Versions may
    have gaps."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Store snapshots, all or nothing. Raises IntegrityError if one of the same version is
        there."""
        if stored_events:
            taken = opaque(stored_events)
            self.thread.call(snapshots.put(self.log.pool, self.application, taken))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Snapshots of an aggregate with gt < version ≤ lte."""
        found = self.thread.call(
            snapshots.get(
                self.log.pool,
                self.application,
                stream_of(originator_id),
                gt=-1 if gt is None else gt,
                lte=ENDLESS if lte is None else lte,
                desc=desc,
                limit=limit,
            )
        )
        return [StoredEvent(e.stream_id, e.version, e.name, e.payload) for e in found]


def opaque(events: Sequence[StoredEvent]) -> list[Opaque]:
    """The library's events as the log's. Raises DataError for an id or version that cannot be
    one."""
    for event in events:
        if event.originator_version < 0:
            raise DataError(f"version {event.originator_version}: versions begin at 0 or 1")
    return [
        Opaque(stream_of(e.originator_id), e.originator_version, e.topic, bytes(e.state))
        for e in events
    ]


def stream_of(originator_id: UUID | str) -> UUID:
    """The stream of an aggregate. Raises DataError for an id that is a text."""
    if not isinstance(originator_id, UUID):
        raise DataError(
            f"{originator_id!r} is a text, and the log's streams have UUIDs: derive one by uuid5"
        )
    return originator_id


def notification(raw: Raw) -> Notification:
    """An event of the log as a notification."""
    env, payload = raw
    return Notification(env.stream_id, env.version, env.name, payload, id=env.position)


def handled(tracked: Opaque) -> int:
    """The notification that a tracking event tells of."""
    return msgspec.json.decode(tracked.payload, type=Tracking).notification_id
