"""Proofs as files: what they are made of, and that no field of one can be changed."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from eventstore.chain import GENESIS
from eventstore.proofs import merkle
from eventstore.proofs.documents import (
    BadProof,
    InclusionProof,
    ProvenEvent,
    check,
    decode,
    encode,
)
from eventstore.proofs.frontier import Frontier
from eventstore.proofs.merkle import Node
from eventstore.proofs.notes import BadSignature, Checkpoint, SigningKey, sign

KEY = SigningKey("example.com/log", b"k" * 32)
AT = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
SIZE, POSITION = 11, 7


def _event(n: int, payload: bytes = b'{"a":1}') -> ProvenEvent:
    return ProvenEvent.with_payload(
        payload,
        event_id=UUID(int=n),
        stream_id=UUID(int=1000 + n),
        version=1,
        name="a.b.v1",
        actor="\u00e1na",
        correlation_id=UUID(int=2000),
        causation_id=None,
        traceparent="00-trace",
        occurred_at=AT,
        recorded_at=AT,
    )


def _made(payload: bytes = b'{"a":1}') -> InclusionProof:
    """A proof of the event at POSITION in a log of SIZE events."""
    hashes = [GENESIS]
    for position in range(1, SIZE + 1):
        hashes.append(_event(position, payload).hash(hashes[-1], position))
    leaves = [merkle.leaf_hash(each) for each in hashes[1:]]

    def node(of: Node) -> str:
        return b64encode(merkle.join(leaves[of.start : of.end])).decode()

    checkpoint = Checkpoint(KEY.public.name, SIZE, merkle.join(leaves))
    return InclusionProof(
        position=POSITION,
        event=_event(POSITION, payload),
        previous_hash=hashes[POSITION - 1].hex(),
        path=[node(each) for each in merkle.inclusion_nodes(POSITION - 1, SIZE)],
        checkpoint=sign(checkpoint, [KEY]),
    )


@pytest.mark.parametrize(
    "payload", [b'{"a":1}', b'{"a": "\xc3\xa1\\u0000"}', b"", b"\xff\x00"], ids=range(4)
)
def test_a_proof_is_read_as_it_was_written_and_holds(payload: bytes) -> None:
    proof = decode(encode(_made(payload)))
    assert proof == _made(payload)
    assert check(proof, [KEY.public]).size == SIZE


CHANGES = {
    "payload": ("event", "payload", "{}"),
    "actor": ("event", "actor", "user:9"),
    "name": ("event", "name", "game.updated.v1"),
    "version": ("event", "version", 2),
    "stream": ("event", "stream_id", "018f0000-0000-7000-8000-000000000000"),
    "event": ("event", "event_id", "018f0000-0000-7000-8000-000000000000"),
    "correlation": ("event", "correlation_id", "018f0000-0000-7000-8000-000000000000"),
    "causation": ("event", "causation_id", "018f0000-0000-7000-8000-000000000000"),
    "trace": ("event", "traceparent", ""),
    "occurred": ("event", "occurred_at", None),
    "recorded": ("event", "recorded_at", "2026-01-01T00:00:00Z"),
    "previous": ("previous_hash", "00" * 32),
    "position": ("position", 8),
    "beyond": ("position", 12),
    "format": ("format", "ludoteca.proof.2"),
    "path": ("path", []),
    "hash": ("path", ["AAAA"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_proof_does_not_hold(change: tuple[Any, ...]) -> None:
    proof = json.loads(encode(_made()))
    *where, field, value = change
    inner = proof[where[0]] if where else proof
    assert inner[field] != value
    inner[field] = value
    with pytest.raises(BadProof):
        check(decode(json.dumps(proof).encode()), [KEY.public])


@pytest.mark.parametrize(
    "added",
    [{"amount": 5}, {"event": {"amount": 5}}, {"event": {"payload_base64": "eyJhIjo5fQ=="}}],
)
def test_a_proof_says_nothing_that_is_not_proved(added: dict[str, Any]) -> None:
    document = json.loads(encode(_made()))
    event = document["event"] | added.get("event", {})
    forged = json.dumps(document | added | {"event": event}).encode()
    with pytest.raises(BadProof, match=r"unknown field|two payloads"):
        check(decode(forged), [KEY.public])


def test_a_proof_for_another_log_or_by_another_key_does_not_hold() -> None:
    other = SigningKey("example.com/log", b"o" * 32)
    with pytest.raises(BadSignature, match="signed by another key"):
        check(_made(), [other.public])
    held = Checkpoint("example.com/other", SIZE, bytes(32))
    with pytest.raises(BadProof, match="of another log"):
        check(_made(), [KEY.public], held)
    rewritten = Checkpoint("example.com/log", SIZE, sha256(b"other").digest())
    with pytest.raises(BadProof, match="rewritten"):
        check(_made(), [KEY.public], rewritten)


def test_a_tree_of_more_than_one_stored_level_proves_its_leaves() -> None:
    """65,536 events make the first node of the second level."""
    size = 66_000
    data = [n.to_bytes(8, "big") for n in range(size)]
    frontier, stored = Frontier(), {}
    for start in range(0, size, 5_000):
        for made in frontier.add(data[start : start + 5_000]):
            stored[made.level, made.number] = made.hash
    assert (2, 0) in stored
    leaves = [merkle.leaf_hash(each) for each in data]

    def node(of: Node) -> bytes:
        spans = merkle.spans(of)
        return merkle.hash_of(
            [
                leaves[span.first : span.first + span.count]
                if span.level == 0
                else [stored[span.level, span.first + n] for n in range(span.count)]
                for span in spans
            ]
        )

    for index in (0, 255, 65_535, 65_536, size - 1):
        path = [node(each) for each in merkle.inclusion_nodes(index, size)]
        assert merkle.root_by_inclusion(leaves[index], index, size, path) == frontier.root
    for old in (1, 65_535, 65_536, 65_537, size):
        path = [node(each) for each in merkle.consistency_nodes(old, size)]
        begun = merkle.join(leaves[:old])
        assert merkle.is_consistent(old, begun, size, frontier.root, path)
