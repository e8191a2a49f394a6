"""The requests that both sides receive."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from urllib.parse import quote_plus
from uuid import UUID

import msgspec

from benchmarks.http.shop import READERS, Shop
from benchmarks.http.typed import never_repeated, repeated
from benchmarks.http.wrk import Request
from domain.cart import ItemAdded
from domain.orders import OrderCreated
from domain.transactions import TransactionCreated

ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Portland",
    "postal_code": "97201",
    "country": "US",
}
CARD = {"type": "card", "token": "pm_card_visa"}
AHEAD = 512
"""How many carts are filled before the first checkout: by the time a cart is checked out it was
filled long ago, however the connections overtake each other."""


class Endpoint(msgspec.Struct, frozen=True):
    """A request type to measure. `requests` yields requests from a number on, endlessly; no command
    occurs twice. Each command appends one of each of `events`. `ahead` is sent before the first of
    `requests`. `goes_on`: no request is sent again to fill the time."""

    name: str
    requests: Callable[[Shop, int], Iterator[Request]]
    events: tuple[str, ...] = ()
    ahead: Callable[[Shop, int], Iterator[Request]] = lambda _shop, _first: iter(())
    goes_on: bool = False

    @property
    def is_command(self) -> bool:
        """Whether it changes something."""
        return bool(self.events)


def _game(shop: Shop, first: int) -> Iterator[Request]:
    for n in count(first):
        yield Request("GET", f"/api/v1/games/{shop.games[n * 7 % len(shop.games)]}")


def _games(_: Shop, _first: int) -> Iterator[Request]:
    while True:
        yield Request("GET", "/api/v1/games?limit=20")


def _search(shop: Shop, first: int) -> Iterator[Request]:
    yield from map(_searching, islice(never_repeated(shop.titles), first, None))


def _search_again(shop: Shop, first: int) -> Iterator[Request]:
    yield from map(_searching, islice(repeated(shop.titles), first, None))


def _searching(query: str) -> Request:
    return Request("GET", f"/api/v1/games/search?q={quote_plus(query)}&limit=20")


def _library(_: Shop, first: int) -> Iterator[Request]:
    for n in count(first):
        yield Request("GET", "/api/v1/library", n % READERS)


def _order(shop: Shop, first: int) -> Iterator[Request]:
    for n in count(first):
        reader, order_id = shop.orders[n % len(shop.orders)]
        yield Request("GET", f"/api/v1/orders/{order_id}", reader)


def _cart(_: Shop, first: int) -> Iterator[Request]:
    for n in count(first):
        yield Request("GET", "/api/v1/cart", n % READERS)


def _buyers(shop: Shop) -> int:
    return len(shop.accounts) - READERS


def _place(shop: Shop, first: int) -> Iterator[Request]:
    """Each buyer orders the first game, then each the second, and so on."""
    for n in count(first):
        turn, buyer = divmod(n, _buyers(shop))
        body = {"game_id": shop.games[turn], "payment_method": CARD}
        yield _post("/api/v1/orders", READERS + buyer, body)


def _check_out(shop: Shop, first: int) -> Iterator[Request]:
    """Alternately check out a cart, and fill the cart `AHEAD` places further."""
    for n in count(first):
        buyer = READERS + n % _buyers(shop)
        body = {"payment_method": CARD, "shipping_address": ADDRESS}
        yield _post("/api/v1/cart/checkout", buyer, body)
        yield _item(shop, n + AHEAD)


def _fill(shop: Shop, first: int) -> Iterator[Request]:
    for n in range(first, first + AHEAD):
        yield _item(shop, n)


def _item(shop: Shop, n: int) -> Request:
    turn, buyer = divmod(n, _buyers(shop))
    product_id = shop.products[(turn + buyer) % len(shop.products)]
    return _post("/api/v1/cart/items", READERS + buyer, {"product_id": product_id, "quantity": 1})


def _transfer(shop: Shop, first: int) -> Iterator[Request]:
    """One cent to the buyer half the round away, so that two concurrent transfers never share a
    wallet."""
    buyers = _buyers(shop)
    for n in count(first):
        source = READERS + n % buyers
        target = READERS + (n + buyers // 2) % buyers
        body = {
            "type": "transfer",
            "amount_cents": 1,
            "currency": "USD",
            "from_wallet_id": shop.wallets[source],
            "to_wallet_id": shop.wallets[target],
        }
        yield _post("/api/v1/transactions", source, body)


def _post(path: str, account: int, body: Mapping[str, object]) -> Request:
    return Request("POST", path, account, json.dumps(body, default=_text))


def _text(value: object) -> str:
    assert isinstance(value, UUID)
    return str(value)


ENDPOINTS = {
    "game": Endpoint("GET /games/{id}", _game),
    "games": Endpoint("GET /games?limit=20", _games),
    "search": Endpoint("GET /games/search?q=, each time another query", _search, goes_on=True),
    "search-again": Endpoint(
        "GET /games/search?q=, with queries repeated by Zipf's law", _search_again, goes_on=True
    ),
    "library": Endpoint("GET /library", _library),
    "order": Endpoint("GET /orders/{id}", _order),
    "cart": Endpoint("GET /cart", _cart),
    "place": Endpoint("POST /orders", _place, (OrderCreated.NAME,)),
    "checkout": Endpoint(
        "POST /cart/items, POST /cart/checkout",
        _check_out,
        (ItemAdded.NAME, OrderCreated.NAME),
        _fill,
    ),
    "transfer": Endpoint("POST /transactions", _transfer, (TransactionCreated.NAME,)),
}
"""By their names on the command line."""
