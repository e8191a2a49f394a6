"""What an operator looks at: dead letters, an event that cannot be applied, an alert, acts and
tasks."""

from collections.abc import Mapping
from uuid import UUID, uuid4

import psycopg

from domain.alerts import Seen, raise_alert
from domain.catalog import GameUpdated
from domain.events import Event
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from runtime.wiring.codec import codec
from tests.browser.stories import must
from tests.support.processes.instance import Instance, eventually

_DEAD = """
INSERT INTO queue.jobs (queue, id, kind, body, attempts, error, died_at) VALUES
('ludoteca.payments', %(id)s, %(kind)s, jsonb_build_object('payment_id', %(about)s::text,
    'causation_id', %(id)s::text, 'correlation_id', %(id)s::text,
    'traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'),
    3, 'the provider did not answer: timed out', clock_timestamp())"""


def dead_letters(shop: Instance, kind: str, count: int = 2) -> None:
    """Jobs of a kind that gave up."""
    with psycopg.connect(shop.environment["LUDOTECA_DATABASE_URL"]) as conn:
        for _ in range(count):
            conn.execute(_DEAD, {"id": uuid4(), "kind": kind, "about": uuid4()})


async def poisoned(shop: Instance) -> UUID:
    """A stream that begins with an event which no read model can apply."""
    stream = uuid4()
    await _happened(shop, stream, GameUpdated(title="out of nowhere"))
    return stream


async def alerted(shop: Instance) -> None:
    """An alert of Alertmanager's, which the shop does not resolve by itself."""
    labels = {"queue": "ludoteca.payments", "instance": uuid4().hex[:8]}
    summary = "ludoteca.payments has had dead letters for ten minutes"
    seen = Seen("alertmanager", "DeadLetters", labels, "critical", summary, "deadletters")
    await _happened(shop, seen.alert_id, *raise_alert(None, seen))


async def _happened(shop: Instance, stream: UUID, *events: Event) -> None:
    url = shop.environment["LUDOTECA_DATABASE_URL"]
    async with PostgresLog.open(url, codec(), pool_size=1) as log:
        await log.append([StreamAppend(stream, 0, events)])


def paused_and_resumed(shop: Instance, consumer: str) -> None:
    """Two acts."""
    for act, reason in (("pause", "the disk is full"), ("resume", "there is room again")):
        path = f"/api/v1/ops/projections/{consumer}/{act}"
        must(shop.admin().post(path, json={"reason": reason}))


def a_what_if(shop: Instance) -> str:
    """The id of a task that is done: half the fee."""
    asked = {"from": "2020-01-01T00:00:00Z", "platform_fee_bps": 500, "reason": "a campaign"}
    return _done(shop, "/api/v1/audit/whatif", asked)


def a_replay(shop: Instance, position: int) -> str:
    """The id of a task that is done: the shop as it was."""
    asked = {"until": str(position), "reason": "the accountant asks"}
    return _done(shop, "/api/v1/audit/replays", asked)


def a_verification(shop: Instance) -> str:
    """The id of a task that is done: the log is as it was appended."""
    return _done(shop, "/api/v1/audit/verifications", {})


def _done(shop: Instance, path: str, asked: Mapping[str, object]) -> str:
    """Ask for a task, and wait until it is done."""
    task_id = must(shop.admin().post(path, json=asked or None))["id"]
    path = f"/api/v1/audit/tasks/{task_id}"
    eventually(lambda: must(shop.admin().get(path)), lambda task: task["state"] == "DONE")
    return str(task_id)
