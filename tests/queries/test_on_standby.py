"""The queries' own tests, answered by a standby that streams from the primary."""

from collections.abc import AsyncIterator, Iterator

import pytest

from queries.engine.replica import Replica
from tests.queries.test_cart_analytics import *  # noqa: F403
from tests.queries.test_details import *  # noqa: F403
from tests.queries.test_lists import *  # noqa: F403
from tests.queries.test_sales import *  # noqa: F403
from tests.support.servers.standby import Pair
from tests.support.shops.replicated import ReplicatedShop, database_of, open_replicated


class Streaming(Pair):
    """Notes who answered the queries of all tests."""

    answered = passed_on = 0

    def note(self, replica: Replica) -> None:
        self.answered += replica.answered
        self.passed_on += replica.passed_on


@pytest.fixture(scope="module")
def pair() -> Iterator[Streaming]:
    with Streaming() as pair:
        pair.standby.start()
        yield pair
        assert pair.answered > 9 * pair.passed_on, "it was the standby that was tested"


@pytest.fixture
async def shop(pair: Streaming, quick_looks: None) -> AsyncIterator[ReplicatedShop]:
    with database_of(pair) as url:
        async with open_replicated(pair, url) as shop:
            yield shop
            pair.note(shop.replica)
