"""A queue that is busy and one that stands still, told apart by how many jobs wait."""

import pytest

from adapters.queues.standstill import Standstill


@pytest.mark.parametrize(
    ("waiting", "seconds"),
    [
        ([0, 0, 0], 0),
        ([5, 5, 7, 7], 30),
        ([0, 0, 3, 3], 10),
        ([9, 9, 8, 12], 10),
        ([4, 4, 0, 4, 4], 10),
        ([9, 8, 7, 6], 0),
    ],
    ids=["empty", "nobody takes", "since there are any", "some were taken", "all were", "busy"],
)
def test_jobs_wait_since_they_became_no_fewer(waiting: list[int], seconds: int) -> None:
    now = 0.0
    standstill = Standstill(lambda: now)
    for found in waiting:
        shown = standstill.seconds(found)
        now += 10
    assert shown == seconds
