"""The `eventsourcing` library's own test cases, unedited, for our persistence module."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.utils import Environment

from adapters.eventsourcing_recorder import LogFactory
from adapters.eventsourcing_recorder.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogTrackingRecorder,
)
from tests.support.library import environment

pytest.importorskip("Crypto", reason="the library's test cases need pycryptodome")

from eventsourcing.tests import application, persistence


class Given:
    """A factory whose database has no tables yet."""

    factory: LogFactory

    @pytest.fixture(autouse=True)
    def _factory(self, empty_database: str) -> Iterator[None]:
        self.factory = LogFactory(environment(empty_database))
        yield
        self.factory.close()


class TestAggregateRecorder(Given, persistence.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.factory.aggregate_recorder()


class TestSnapshotRecorder(Given, persistence.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.factory.aggregate_recorder(purpose="snapshots")


class TestApplicationRecorder(Given, persistence.ApplicationRecorderTestCase[ApplicationRecorder]):
    def create_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderFromZero(TestApplicationRecorder):
    INITIAL_VERSION = 0


class TestNotificationIdsDoNotInterleave(Given, persistence.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()


class TestTrackingRecorder(Given, persistence.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.factory.tracking_recorder()


class TestProcessRecorder(Given, persistence.ProcessRecorderTestCase):
    def create_recorder(self) -> ProcessRecorder:
        return self.factory.process_recorder()


class TestProcessRecorderAsApplicationRecorder(TestApplicationRecorder):
    def create_recorder(self) -> ApplicationRecorder:
        return self.factory.process_recorder()


class OtherTrackingRecorder(LogTrackingRecorder):
    """One that an application brings."""


class TestInfrastructureFactory(persistence.InfrastructureFactoryTestCase[LogFactory]):
    @pytest.fixture(autouse=True)
    def _environment(self, empty_database: str) -> None:
        self.env = Environment(env=environment(empty_database))

    def expected_factory_class(self) -> type[LogFactory]:
        return LogFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return LogAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return LogApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return LogTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return OtherTrackingRecorder

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return LogProcessRecorder


class TestExampleApplication(application.ExampleApplicationTestCase):
    """An application with snapshots; the process's environment variables choose our log."""

    expected_factory_topic = "adapters.eventsourcing_recorder:LogFactory"

    @pytest.fixture(autouse=True)
    def _environment(self, empty_database: str) -> Iterator[None]:
        with mock.patch.dict(os.environ, environment(empty_database)):
            yield
