"""Events and keys keep everything on their way through KurrentDB's records."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kurrentdbclient import NewRecord, RecordedEvent

from adapters.kurrentdb.wire import (
    SEALS,
    Copied,
    CopiedOnce,
    event_record,
    once_name,
    once_record,
    read,
    stream_id_of,
    stream_name,
)

MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
NUMBERS = st.integers(0, 2**40)
EVENTS = st.builds(
    Copied,
    event_id=st.uuids(),
    stream_id=st.uuids(),
    version=st.integers(1, 2**62),
    name=st.text(min_size=1),
    payload=st.binary(),
    actor=st.text(),
    correlation_id=st.none() | st.uuids(),
    causation_id=st.none() | st.uuids(),
    traceparent=st.none() | st.text(),
    occurred_at=st.none() | MOMENTS,
    number=NUMBERS,
    of=NUMBERS,
    recorded_at=st.none() | MOMENTS,
    created=MOMENTS,
    commit_position=NUMBERS,
)
KEYS = st.builds(
    CopiedOnce,
    key=st.uuids(),
    fingerprint=st.binary(),
    result_ids=st.dictionaries(st.text(), st.text()),
    expires_at=st.none() | MOMENTS,
    stream_id=st.uuids(),
    version=st.integers(1, 2**62),
    commit_position=NUMBERS,
)


def recorded(
    new: NewRecord, revision: int = 0, position: int = 0, at: datetime | None = None
) -> RecordedEvent:
    """A record as KurrentDB has it."""
    return RecordedEvent(
        type=new.type,
        data=new.data,
        metadata=new.metadata,
        content_type=new.content_type,
        id=new.id,
        stream_name=new.stream_name,
        stream_position=revision,
        commit_position=position,
        prepare_position=position,
        recorded_at=at,
    )


@given(EVENTS)
def test_an_event_is_read_as_it_was_written(event: Copied) -> None:
    new = event_record(event)
    assert read(recorded(new, event.version - 1, event.commit_position, event.created)) == event
    metadata = msgspec.json.decode(new.metadata)
    assert all(isinstance(value, str) for value in metadata.values())


@given(KEYS)
def test_a_key_is_read_as_it_was_written(once: CopiedOnce) -> None:
    assert read(recorded(once_record(once), position=once.commit_position)) == once


@given(st.uuids())
def test_a_stream_s_name_tells_its_id(stream_id: UUID) -> None:
    assert stream_id_of(stream_name(stream_id)) == stream_id
    assert stream_id_of(once_name(stream_id)) is None


@pytest.mark.parametrize("name", [SEALS, "order-7", "$$ludoteca-7", "ludoteca-proof"])
def test_what_is_not_an_event_of_ours_is_passed_over(name: str) -> None:
    assert read(recorded(NewRecord(name, "said", b"{}", b"no metadata of ours"))) is None
    assert stream_id_of(name) is None


def test_properties_of_the_server_are_passed_over() -> None:
    event = Copied(uuid4(), uuid4(), 1, "said", b"{}", "system", None, None, None, None, 0, 1)
    new = event_record(event)
    more = {**msgspec.json.decode(new.metadata), "$schema.name": "said", "$schema.format": "Json"}
    there = msgspec.structs.replace(event, created=datetime(2026, 1, 1, tzinfo=UTC))
    changed = NewRecord(new.stream_name, new.type, new.data, msgspec.json.encode(more), id=new.id)
    assert read(recorded(changed, at=there.created)) == there


def test_a_damaged_event_of_ours_is_an_error() -> None:
    for metadata in (b"", b"{}", b'{"append": "0"}', b'{"append": "0/1", "occurred_at": "x"}'):
        with pytest.raises(ValueError):
            read(recorded(NewRecord(stream_name(uuid4()), "said", b"{}", metadata)))
