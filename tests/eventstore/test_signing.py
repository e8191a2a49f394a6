"""Checkpoints are signed when they are due, by one process of all, and a witness holds them."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.witness.client import HttpWitness
from eventstore.postgres_log import PostgresLog
from eventstore.proofs import heads, tree
from eventstore.proofs.frontier import StoredNode
from eventstore.proofs.keys import add_key, known_keys
from eventstore.proofs.notes import parse
from eventstore.proofs.origin import origin
from eventstore.proofs.proving import prove_event
from eventstore.proofs.signing import rotate_key, sign_checkpoint
from kit.clock import SYSTEM_CLOCK, ManualClock
from runtime.audit.checkpoint_files import FOLDER, CheckpointFiles
from runtime.processes import signing
from runtime.processes.signing import Signer
from tests.support.events.notes import CODEC, admin, new_stream
from tests.support.servers.witness import Witness, running_witness


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    async with running_witness() as running:
        yield running


@pytest.fixture(autouse=True)
def _tries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "ALERT_SECONDS", 0.0)


def signer(log: PostgresLog, home: Path, witness: Witness | None = None) -> Signer:
    return Signer(
        log,
        SYSTEM_CLOCK,
        CheckpointFiles(home),
        events=10,
        age=timedelta(hours=1),
        witness=HttpWitness(witness.url) if witness else None,
    )


async def append(log: PostgresLog, count: int) -> None:
    for n in range(count):
        await log.append([new_stream(str(n))])


async def sizes(log: PostgresLog) -> list[int]:
    async with log.pool.connection() as conn:
        return [head.size for head in await heads.page(conn, 1000, 100)][::-1]


async def trusts(witness: Witness, log: PostgresLog) -> None:
    """Tell the witness the log's key."""
    async with log.pool.connection() as conn:
        name = await origin(conn)
        assert name is not None
        witness.log_key = (await known_keys(conn, name))[-1].key


async def test_a_checkpoint_is_signed_after_so_many_events(
    postgres_log: PostgresLog, tmp_path: Path
) -> None:
    each = signer(postgres_log, tmp_path)
    await each.look()
    assert await sizes(postgres_log) == []  # of an empty log
    for events, expected in ((1, [1]), (9, [1]), (1, [1, 11]), (25, [1, 11, 36]), (0, [1, 11, 36])):
        await append(postgres_log, events)
        await each.look()
        assert await sizes(postgres_log) == expected
    files = sorted(path.name.split("-")[0] for path in (tmp_path / FOLDER).iterdir())
    assert files == ["1", "11", "36"]


async def test_and_after_an_hour_if_anything_was_appended(
    postgres_log: PostgresLog, tmp_path: Path
) -> None:
    clock = ManualClock(SYSTEM_CLOCK.now())
    each = Signer(
        postgres_log, clock, CheckpointFiles(tmp_path), events=100, age=timedelta(hours=1)
    )
    await append(postgres_log, 1)
    await each.look()
    clock.advance(timedelta(hours=2))
    await each.look()
    assert await sizes(postgres_log) == [1]
    await append(postgres_log, 1)
    await each.look()
    assert await sizes(postgres_log) == [1, 2]


async def test_processes_that_sign_at_once_sign_each_size_once(
    postgres_log: PostgresLog, database: str
) -> None:
    async with PostgresLog.open(database, CODEC, pool_size=3) as other:
        for _ in range(5):
            await append(postgres_log, 3)
            made = await asyncio.gather(*(sign_checkpoint(log) for log in (postgres_log, other)))
            assert made[0] == made[1]
    assert await sizes(postgres_log) == [3, 6, 9, 12, 15]


async def test_the_old_key_vouches_for_the_new_one_even_if_its_rotation_was_cut_down(
    postgres_log: PostgresLog,
) -> None:
    await append(postgres_log, 3)
    await sign_checkpoint(postgres_log)
    async with postgres_log.pool.connection() as conn:
        name = await origin(conn)
    assert name is not None
    await add_key(postgres_log.pool, name, 2, since=3)  # what a rotation does first
    signed = []
    for _ in range(2):
        await append(postgres_log, 1)
        head = await sign_checkpoint(postgres_log)
        async with postgres_log.pool.connection() as conn:
            keys = [known.key for known in await known_keys(conn, name)]
        signed.append(parse(head.note).signed_by(keys))
    assert signed == [keys, keys[1:]]


async def test_keys_rotated_in_two_processes_while_a_third_signs_are_all_known(
    postgres_log: PostgresLog, database: str
) -> None:
    await append(postgres_log, 3)
    async with PostgresLog.open(database, CODEC, pool_size=4) as other:
        for _ in range(3):
            await append(postgres_log, 1)
            await asyncio.gather(
                rotate_key(postgres_log), rotate_key(other), sign_checkpoint(other)
            )
    async with postgres_log.pool.connection() as conn:
        name = await origin(conn)
        assert name is not None
        known = await known_keys(conn, name)
        made = await heads.page(conn, 1000, 100)
    for head in made:
        assert parse(head.note).signed_by([each.key for each in known if each.may_sign(head.size)])


async def test_a_file_that_is_missing_is_written_again(
    postgres_log: PostgresLog, tmp_path: Path
) -> None:
    """As after a crash between the signature and the file."""
    await append(postgres_log, 3)
    head = await sign_checkpoint(postgres_log)
    await signer(postgres_log, tmp_path).write_missing()
    (file,) = (tmp_path / FOLDER).glob("3-*.txt")
    assert file.read_text() == head.note


async def test_a_witness_holds_each_checkpoint_and_its_signature_is_kept(
    postgres_log: PostgresLog, tmp_path: Path, witness: Witness
) -> None:
    each = signer(postgres_log, tmp_path, witness)
    await append(postgres_log, 3)
    await sign_checkpoint(postgres_log)
    await trusts(witness, postgres_log)
    for _ in range(3):
        await each.look()
        await each.look()
        await append(postgres_log, 300)
    assert witness.asked == [200, 200, 200]
    assert witness.held is not None
    assert witness.held.size == 603
    (file,) = (tmp_path / FOLDER).glob("603-*.txt")
    assert parse(file.read_text()).signed_by([witness.key.public])
    async with postgres_log.pool.connection() as conn:
        head = await heads.latest(conn)
    assert head is not None
    assert (head.note, head.witnessed_at is None) == (file.read_text(), False)


async def test_a_witness_that_was_away_gets_the_latest_with_the_proof_from_what_it_has(
    postgres_log: PostgresLog, tmp_path: Path, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = signer(postgres_log, tmp_path, witness)
    await append(postgres_log, 3)
    await sign_checkpoint(postgres_log)
    await trusts(witness, postgres_log)
    await each.look()
    witness.away = True
    for _ in range(3):
        await append(postgres_log, 10)
        await each.look()
    witness.away = False
    # another process takes over, which does not know what the witness has
    await signer(postgres_log, tmp_path, witness).look()
    assert witness.asked == [200, 503, 503, 503, 409, 200]
    assert witness.held is not None
    assert witness.held.size == 33


async def test_a_witness_cannot_spoil_a_checkpoint(
    postgres_log: PostgresLog, tmp_path: Path, witness: Witness
) -> None:
    """By a signature line that claims to be the log's own."""
    await append(postgres_log, 3)
    await sign_checkpoint(postgres_log)
    await trusts(witness, postgres_log)
    key = witness.log_key
    assert key is not None
    false = b64encode(key.id + bytes(64)).decode()
    witness.also = f"\u2014 {key.name} {false}\n"
    await signer(postgres_log, tmp_path, witness).look()
    async with postgres_log.pool.connection() as conn:
        head = await heads.latest(conn)
        assert head is not None
        assert parse(head.note).signed_by([key, witness.key.public]) == [key, witness.key.public]
        assert await prove_event(conn, 2)


async def test_a_log_rewritten_is_refused_by_the_witness(
    postgres_log: PostgresLog,
    database: str,
    tmp_path: Path,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await append(postgres_log, 20)
    await sign_checkpoint(postgres_log)
    await trusts(witness, postgres_log)
    await signer(postgres_log, tmp_path, witness).look()
    # the last events are gone, with all that the database knows of them; others take their place
    for statement in (
        "ALTER TABLE log.events DISABLE TRIGGER append_only",
        "DELETE FROM log.events WHERE position > 15",
        "DELETE FROM log.tree_heads",
        "ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only",
    ):
        admin(database, statement)
    async with PostgresLog.open(database, CODEC, pool_size=3) as log:
        await append(log, 20)
        await signer(log, tmp_path, witness).look()
    assert witness.asked == [200, 409, 422]
    assert "the witness does not have the latest checkpoint: it answers 422" in caplog.text
    assert witness.held is not None
    assert witness.held.size == 20


async def test_the_tree_is_cut_where_the_log_went_back_to(postgres_log: PostgresLog) -> None:
    nodes = [(1, number) for number in range(257)] + [(2, 0)]
    async with postgres_log.pool.connection() as conn:
        await tree.put(conn, [StoredNode(*each, bytes(32)) for each in nodes])
        found: list[dict[int, int]] = []
        for size in (65_792, 65_791, 65_536, 65_535, 512, 0):
            await tree.cut(conn, size)
            rows = await conn.execute("SELECT level, count(*) FROM log.tree GROUP BY 1 ORDER BY 1")
            found.append(dict(await rows.fetchall()))
    assert found == [{1: 257, 2: 1}, {1: 256, 2: 1}, {1: 256, 2: 1}, {1: 255}, {1: 2}, {}]
