"""The index of reservations gives the same answer as a search through all of them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.reservations import Reservation, Reservations
from tests.support.given_when_then import NOON, an_id

IDS = [an_id(f"r{n}") for n in range(6)]
OWNERS = [an_id(f"owner {n}") for n in range(3)]

moments = st.integers(-7200, 7200).map(
    lambda seconds: NOON + timedelta(seconds=seconds, microseconds=seconds % 3)
)
owners = st.sampled_from([None, *OWNERS])
holds = st.builds(
    Reservation,
    kind=st.sampled_from(["SOFT", "HARD"]),
    quantity=st.integers(1, 9),
    expires_at=moments,
    cart_id=owners,
    order_id=owners,
    buyer_id=owners,
)
changes = st.lists(st.tuples(st.sampled_from(IDS), st.none() | holds), max_size=30)


@given(changes, changes, moments, st.lists(st.sampled_from(OWNERS), max_size=3))
def test_the_index_says_what_looking_at_all_says(
    before: list[tuple[UUID, Reservation | None]],
    after: list[tuple[UUID, Reservation | None]],
    now: datetime,
    asked: list[UUID],
) -> None:
    """`before` are applied before the index exists, `after` later."""
    kept, plain = Reservations(), dict[UUID, Reservation]()
    for part in (before, after):
        for reservation_id, held in part:
            kept = kept.replaced(reservation_id, held)
            plain.pop(reservation_id, None)
            if held is not None:
                plain[reservation_id] = held
        assert kept == plain
        for kind in ("SOFT", "HARD"):
            due = [
                (each.expires_at, key)
                for key, each in plain.items()
                if each.kind == kind
                and now >= each.expires_at
                and (kind == "SOFT" or each.buyer_id is None)
            ]
            found = list(kept.due(kind, now))
            assert found == [key for _, key in sorted(due)]
        assert kept.of(*asked) == sorted(
            key for key, each in plain.items() if each.owners & {*asked}
        )


def test_a_mapping_is_not_changed_by_the_one_that_follows() -> None:
    held = Reservation("SOFT", 1, NOON, cart_id=OWNERS[0])
    first = Reservations({IDS[0]: held})
    assert list(first.due("SOFT", NOON)) == [IDS[0]]
    second = first.replaced(IDS[0], None).replaced(IDS[1], held)

    assert (dict(first), dict(second)) == ({IDS[0]: held}, {IDS[1]: held})
    assert (first.of(OWNERS[0]), second.of(OWNERS[0])) == ([IDS[0]], [IDS[1]])
    assert (list(first.due("SOFT", NOON)), list(second.due("SOFT", NOON))) == ([IDS[0]], [IDS[1]])


def test_ends_long_ago_and_far_ahead_are_in_order() -> None:
    ends = [datetime(1, 1, 3, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), NOON]
    kept = Reservations({an_id(str(at)): Reservation("HARD", 1, at) for at in reversed(ends)})
    assert list(kept.due("HARD", NOON)) == [an_id(str(at)) for at in ends]
    assert list(kept.due("HARD", NOON - timedelta(microseconds=1))) == [
        an_id(str(at)) for at in ends[:2]
    ]
