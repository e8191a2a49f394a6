"""The messages on the bus: CloudEvents 1.0, JSON format, structured mode."""

import json
import re
from datetime import UTC, datetime
from uuid import UUID

from adapters.relay.cloudevents import to_cloudevent
from eventstore.log import Envelope

ENVELOPE = Envelope(
    position=42,
    event_id=UUID("018f0000-0000-7000-8000-000000000001"),
    stream_id=UUID("018f0000-0000-7000-8000-000000000002"),
    version=3,
    name="payment.transaction.completed.v1",
    recorded_at=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    actor="user:018f0000-0000-7000-8000-000000000003",
    correlation_id=UUID("018f0000-0000-7000-8000-000000000004"),
    causation_id=UUID("018f0000-0000-7000-8000-000000000005"),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def test_every_part_of_the_envelope_has_its_attribute() -> None:
    assert json.loads(to_cloudevent(ENVELOPE, b'{"amount_cents":1990}', "2.7f3a9c21")) == {
        "specversion": "1.0",
        "id": "018f0000-0000-7000-8000-000000000001",
        "source": "ludoteca",
        "type": "payment.transaction.completed.v1",
        "subject": "018f0000-0000-7000-8000-000000000002",
        "time": "2026-01-02T03:04:05.678901Z",
        "datacontenttype": "application/json",
        "data": {"amount_cents": 1990},
        "position": 42,
        "streamversion": 3,
        "actor": "user:018f0000-0000-7000-8000-000000000003",
        "correlationid": "018f0000-0000-7000-8000-000000000004",
        "causationid": "018f0000-0000-7000-8000-000000000005",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "epoch": "2.7f3a9c21",
    }


def test_what_an_event_does_not_have_is_left_out() -> None:
    at = ENVELOPE.recorded_at
    bare = Envelope(
        1, ENVELOPE.event_id, ENVELOPE.stream_id, 1, "game.created.v1", at, at, "system"
    )
    event = json.loads(to_cloudevent(bare, b"{}"))
    assert event.keys().isdisjoint({"correlationid", "causationid", "traceparent", "epoch"})
    assert None not in event.values()


def test_attribute_names_are_lower_case_letters_and_digits_as_the_specification_wants() -> None:
    event = json.loads(to_cloudevent(ENVELOPE, b"{}"))
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)


def test_the_payload_travels_as_stored_byte_for_byte() -> None:
    stored = '{"email":"enc:v1:q83vEjRWeJA=","note":"Ação","amount":1.50}'.encode()
    assert b'"data":' + stored in to_cloudevent(ENVELOPE, stored)
