"""Personal data in the log: encrypted at rest, unreadable once forgotten; the hash chain stays
valid."""

from typing import ClassVar
from uuid import uuid4

import psycopg
import pytest

from domain.events import EVENTS, Event
from domain.identity import ProfileChanged, UserRegistered
from domain.orders import OrderCreated
from domain.payments import PaymentIntentCancelled, PaymentSubmitted
from eventstore.chain import ChainVerifier
from eventstore.codec import Codec, MissingKey
from eventstore.consumers.reader import Reader
from eventstore.decoding import Unreadable as Unread
from eventstore.keys import keys_now, secret
from eventstore.log import Recorded, StreamAppend
from eventstore.postgres_log import PostgresLog
from kit.forgotten import FORGOTTEN
from tests.support.events.every_event import CODEC
from tests.support.events.notes import CODEC as NOTES
from tests.support.events.notes import Confided, admin


def _registered(name: str = "Ana Ñúñez") -> UserRegistered:
    return UserRegistered(
        user_id=uuid4(),
        account_type="BUYER",
        region="AR",
        email="ana.private@example.com",
        name=name,
        email_digest="d" * 64,
        password_hash="$argon2id$private",
    )


def _everything_stored(database: str) -> str:
    return str(
        admin(
            database,
            "SELECT string_agg(e::text || convert_from(e.payload, 'UTF8'), ' ') FROM log.events e",
        )[0][0]
    )


async def test_personal_text_is_nowhere_in_the_stored_log(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        person = uuid4()
        await log.keys.create([person])
        await log.append(
            [
                StreamAppend(
                    person, 0, [_registered(), ProfileChanged(name="Ana Segunda", region="MX")]
                )
            ]
        )
        stored = _everything_stored(database)
        events = [e.event for e in await log.read_stream(person)]
    for private in ("ana.private", "Ana Ñ", "argon2id", "Segunda"):
        assert private not in stored
    assert '"region":"MX"' in stored
    assert (events[0].email, events[0].name, events[1].name) == (
        "ana.private@example.com",
        "Ana Ñúñez",
        "Ana Segunda",
    )


async def test_personal_data_of_a_person_without_a_key_is_not_written(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        with pytest.raises(MissingKey):
            await log.append([new_stream_of(_registered())])
        assert await log.head() == 0


def new_stream_of(*events: Event) -> StreamAppend:
    return StreamAppend(uuid4(), 0, events)


async def test_a_change_without_personal_fields_needs_no_key(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        append = new_stream_of(ProfileChanged(region="MX"))
        await log.append([append])
        assert [e.event for e in await log.read_stream(append.stream_id)] == [
            ProfileChanged(region="MX")
        ]


async def test_destroying_the_key_forgets_the_person_everywhere_and_breaks_no_proof(
    database: str,
) -> None:
    async with PostgresLog.open(database, NOTES) as log:
        ana, ben, diary = uuid4(), uuid4(), uuid4()
        await log.keys.create([ana, ben])
        await log.append([StreamAppend(diary, 0, [Confided(ana, "ana's"), Confided(ben, "ben's")])])
        await log.keys.destroy(ana)

        expected = [Confided(ana, FORGOTTEN), Confided(ben, "ben's")]
        assert [e.event for e in await log.read_stream(diary)] == expected
        assert [e.event for e in await log.read()] == expected
        assert [e.event for e in await anext(log.subscribe())] == expected
        assert _read_in_a_thread(database, NOTES, [Confided]) == expected
        assert [step async for step in log.verify(ChainVerifier(), upto=2)] == [2]


async def test_an_order_is_encrypted_under_its_buyers_key_though_its_stream_is_another(
    database: str,
) -> None:
    from datetime import UTC, datetime

    async with PostgresLog.open(database, CODEC) as log:
        buyer = uuid4()
        order = OrderCreated(
            buyer_id=buyer,
            region="AR",
            currency="USD",
            total_cents=1,
            provisional=False,
            payment_id=uuid4(),
            expires_at=datetime(2026, 1, 1, tzinfo=UTC),
            lines=(),
            shipping_address={"street": "Calle Falsa 123"},
        )
        await log.keys.create([buyer])
        await log.append([new_stream_of(order)])
        assert "Falsa" not in _everything_stored(database)
        assert [e.event for e in await log.read()] == [order]
        await log.keys.destroy(buyer)
        assert [e.event.shipping_address for e in await log.read()] == [None]


# -- keys and secrets ------------------------------------------------------------------------------


async def test_a_person_keeps_the_key_that_they_have(postgres_log: PostgresLog) -> None:
    person, other = uuid4(), uuid4()
    await postgres_log.keys.create([person])
    key = (await postgres_log.keys.get([person]))[person]
    await postgres_log.keys.create([person, other])
    keys = await postgres_log.keys.get([person, other, uuid4()])
    assert keys.keys() == {person, other}
    assert keys[person] == key
    assert keys[other] != key
    assert len(key) == 32


async def test_a_destroyed_key_is_gone_for_everybody(
    postgres_log: PostgresLog, database: str
) -> None:
    person = uuid4()
    await postgres_log.keys.create([person])
    with psycopg.connect(database) as conn:
        assert keys_now(conn, [person]) == await postgres_log.keys.get([person])
    await postgres_log.keys.destroy(person)
    with psycopg.connect(database) as conn:
        assert keys_now(conn, [person]) == await postgres_log.keys.get([person]) == {}


async def test_a_secret_is_made_once(postgres_log: PostgresLog) -> None:
    assert await secret(postgres_log.pool, "pepper", lambda: b"first") == b"first"
    assert await secret(postgres_log.pool, "pepper", lambda: b"second") == b"first"
    assert await secret(postgres_log.pool, "other", lambda: b"third") == b"third"


# -- old shapes in the log -------------------------------------------------------------------------


class CancelledAsItWas(Event, frozen=True):
    """The event as payments appended it before cancellations had a reason."""

    NAME: ClassVar[str] = "payment.intent_cancelled.v1"
    provider_ref: str | None = None


async def test_an_old_shape_reads_as_the_new_one_wherever_it_is_read(database: str) -> None:
    payment = uuid4()
    async with PostgresLog.open(
        database, Codec({**EVENTS, CancelledAsItWas.NAME: CancelledAsItWas})
    ) as past:
        old = [PaymentSubmitted("simulated", 1), CancelledAsItWas("pi_1")]
        await past.append(
            [StreamAppend(payment, 0, old), new_stream_of(PaymentSubmitted("simulated", 1))]
        )
    async with PostgresLog.open(database, CODEC) as log:
        await log.append([StreamAppend(payment, 2, [PaymentIntentCancelled("expired")])])
        names = CODEC.names_of([PaymentIntentCancelled])

        def cancellations(events: list[Recorded]) -> list[Event]:
            return [e.event for e in events if isinstance(e.event, PaymentIntentCancelled)]

        expected = [PaymentIntentCancelled("unknown", "pi_1"), PaymentIntentCancelled("expired")]
        assert names == ["payment.intent_cancelled.v1", "payment.intent_cancelled.v2"]
        assert cancellations(await log.read_stream(payment)) == expected
        assert cancellations(await log.read()) == expected
        assert [e.event for e in await log.read(names=names)] == expected
        assert [e.event for e in await anext(log.subscribe(names=names))] == expected
        assert _read_in_a_thread(database, CODEC, [PaymentIntentCancelled]) == expected


def _read_in_a_thread(database: str, codec: Codec, classes: list[type[Event]]) -> list[object]:
    """Read as projections do."""
    with psycopg.connect(database, autocommit=True) as conn:
        page = Reader(codec, codec.names_of(classes)).page(conn, 0, 1_000)
    assert not any(isinstance(event, Unread) for _, event in page)
    return [event for _, event in page]
