"""What people write with the `eventsourcing` library beyond one application, on our log: a process
application that follows another one, and a projection whose view the library stores itself."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from eventsourcing.application import Application, ProcessingEvent
from eventsourcing.domain import Aggregate, DomainEventProtocol, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.system import ProcessApplication, SingleThreadedRunner, System

from tests.support.library import environment
from tests.support.servers.shared import create_database, drop_database


class Shelf(Aggregate):
    @event("Registered")
    def __init__(self, place: str) -> None:
        self.place = place


class Shelves(Application[UUID]):
    def register(self, place: str) -> int:
        (recording,) = self.save(Shelf(place))
        return recording.notification.id


class Label(Aggregate):
    @event("Printed")
    def __init__(self, shelf_id: UUID) -> None:
        self.shelf_id = shelf_id


class Labels(ProcessApplication[UUID]):
    """Prints a label for each shelf."""

    def policy(
        self, domain_event: DomainEventProtocol[UUID], processing_event: ProcessingEvent[UUID]
    ) -> None:
        processing_event.collect_events(Label(domain_event.originator_id))


class Count(PostgresTrackingRecorder):
    """A view that knows the position that it has counted up to."""


class Counting(Projection[Count]):
    name = "counting"

    def process_event(self, _: DomainEventProtocol[UUID], tracking: Tracking) -> None:
        self.view.insert_tracking(tracking)


@pytest.fixture
def second_database(postgres_url: str) -> Iterator[str]:
    url = create_database(postgres_url, template="template1")
    yield url
    drop_database(url)


def test_a_process_application_follows_another(empty_database: str, second_database: str) -> None:
    upstream, downstream = environment(empty_database), environment(second_database)
    env = {**upstream, "LABELS_POSTGRES_DBNAME": downstream["POSTGRES_DBNAME"]}
    for round_ in (1, 2):  # as after a restart
        system = System(pipes=[[Shelves, Labels]])
        runner: SingleThreadedRunner[UUID] = SingleThreadedRunner(system, env=env)
        with runner:
            for _ in range(3):
                runner.get(Shelves).register("window")
            labels = runner.get(Labels)
            notifications = labels.notification_log.select(start=1, limit=10)
            assert len(notifications) == 3 * round_
            assert labels.recorder.max_tracking_id("Shelves") == 3 * round_


def test_the_library_stores_a_projection_of_what_is_on_our_log(empty_database: str) -> None:
    env = {**environment(empty_database), "COUNTING_PERSISTENCE_MODULE": "eventsourcing.postgres"}
    for _ in range(2):
        with ProjectionRunner(
            application_class=Shelves, projection_class=Counting, view_class=Count, env=env
        ) as runner:
            last = runner.app.register("window")
            runner.wait(last, timeout=10)
            assert runner.projection.view.max_tracking_id("Shelves") == last
