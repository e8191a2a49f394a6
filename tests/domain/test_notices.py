"""Notices are kept as they were received, as far as they may be."""

import json
from hashlib import sha256
from typing import Any

import pytest

from domain import notices
from domain.ids import notice_id
from domain.notices import MAX_BODY_BYTES, Notice, NoticeKept, Received, SignedBody
from tests.support.given_when_then import an_id, given

SIGNATURE = "t=1,v1=00ff"
ABOUT: dict[str, Any] = {
    "user_id": an_id("ana"),
    "sender": "stripe",
    "about": "payment",
    "about_id": an_id("payment"),
    "provider_event_id": "evt_1",
}


def kept(body: bytes, *, forgotten: bool = False) -> NoticeKept:
    (event,) = notices.keep(None, SignedBody(body, SIGNATURE), **ABOUT, forgotten=forgotten)
    assert isinstance(event, NoticeKept)
    return event


@pytest.mark.parametrize("body", [b'{"id": "evt_1",\n "n": "\\u00e9"}', '{"é": "𝄞"}'.encode(), b""])
def test_a_body_is_kept_byte_by_byte_with_its_signature(body: bytes) -> None:
    event = kept(body)
    assert event.received == Received(body.decode(), SIGNATURE)
    assert (event.body_bytes, event.withheld) == (len(body), None)


@pytest.mark.parametrize(
    ("body", "beginning"),
    [
        (b"a" * (MAX_BODY_BYTES + 1), "a" * MAX_BODY_BYTES),
        (b"a" * (MAX_BODY_BYTES - 1) + "é".encode(), "a" * (MAX_BODY_BYTES - 1)),
        (b"a\xff{}", "a{}"),
    ],
    ids=["too long", "cut within a letter", "no UTF-8"],
)
def test_of_a_body_that_is_not_kept_whole_the_sum_and_the_length_are(
    body: bytes, beginning: str
) -> None:
    event = kept(body)
    assert event.received == Received(beginning, SIGNATURE, sha256(body).hexdigest())
    assert event.body_bytes == len(body)


def test_the_longest_body_is_kept_whole() -> None:
    received = kept(b'"' * MAX_BODY_BYTES).received
    assert received is not None
    assert (len(received.body), received.sha256) == (MAX_BODY_BYTES, "")


@pytest.mark.parametrize("number", ["4242424242424242", "4242 4242 4242 4242", 4242424242424242])
def test_a_card_number_is_not_kept(number: object) -> None:
    event = kept(json.dumps({"number": number}).encode())
    assert (event.received, event.withheld) == (None, "card_number")


def test_of_who_was_forgotten_only_that_it_came_is_kept() -> None:
    event = kept(b"{}", forgotten=True)
    assert (event.received, event.withheld, event.body_bytes) == (None, "forgotten", 2)


def test_it_is_kept_once_and_known_by_what_it_is_about() -> None:
    state = given(notices.evolve, kept(b"{}")).state
    assert state == Notice("stripe", "payment", an_id("payment"))
    assert notices.keep(state, SignedBody(b"{}", SIGNATURE), **ABOUT, forgotten=False) == []
    ids = {notice_id(an_id(about), event) for about in "ab" for event in ("evt_1", "evt_2")}
    assert len(ids) == 4
