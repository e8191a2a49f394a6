"""The id of another kind of thing is treated like an unknown id: by every look-up of an aggregate,
at every route.

Generated from the table of aggregates and from the gateway's routes, so that new ones are covered.
"""

import json
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any, NamedTuple, get_args
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from adapters.webhooks import signature as webhook_signature
from api.routes import ROUTERS
from commands.aggregates import ALL
from domain.ids import PLATFORM_ID
from eventstore.aggregate import Aggregate
from eventstore.codec import MissingKey
from eventstore.decide import decide
from eventstore.log import WrongKind
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.support.servers.provider import SECRET
from tests.support.shops.every_kind import KINDS, one_of_every_kind
from tests.support.shops.gateway import Person, Shop

PAIRS = [(of, taken_for) for of, taken_for in product(sorted(KINDS), ALL) if of != taken_for.kind]
UNKNOWN = str(UUID(int=1, version=4))
WHOLE_LOG = {"stream_id", "correlation_id"}
"""Parameters that name a stream of any kind."""

BODIES: dict[str, list[dict[str, Any]]] = {
    "/api/v1/transactions": [
        {"type": "deposit", "to_wallet_id": None},
        {"type": "transfer", "from_wallet_id": None, "to_wallet_id": "wallet"},
        {"type": "transfer", "from_wallet_id": "wallet", "to_wallet_id": None},
        {"type": "payment", "from_wallet_id": "wallet", "order_id": None},
        {"type": "payment", "from_wallet_id": None, "order_id": "order"},
    ],
    "/api/v1/orders": [
        {"game_id": None},
        {"game_id": "game", "payment_method": {"type": "wallet", "token": None}},
    ],
    "/api/v1/payments": [
        {"order_id": None},
        {"order_id": "order", "payment_method": {"type": "wallet", "token": None}},
    ],
}
"""Bodies by path, where one generated from the model is not enough: None stands for the tested id,
a word for the id of a stream of that kind."""
COMMON = {
    "amount_cents": 1,
    "quantity": 1,
    "currency": "USD",
    "reason": "for a test",
    "tracking_number": "1Z1",
}


RIGHT = {"seller": "user", "product": "game", "endpoint": "webhook_endpoint", "delivery": "webhook",
         "ledger_transaction": "ledger"}  # fmt: skip
"""The kind that a field `<word>_id` names, where it differs from the word."""


class Try(NamedTuple):
    """A request with one place for an id (`{id}` in path or query, None in the body), and the kind
    of id that belongs there."""

    method: str
    path: str
    body: dict[str, Any] | None
    kind: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} {json.dumps(self.body) if self.body else ''}"


def tries() -> Iterator[Try]:
    """Every place for an id in a path, a query or a body of every route."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                method = min(route.methods or ["GET"])
                for path, name in _paths(route):
                    yield Try(
                        method,
                        path,
                        _filled(_model(route), None) if method != "GET" else None,
                        _kind(name),
                    )
                for body, name in _bodies(route):
                    yield Try(method, route.path, body, _kind(name))


def _kind(name: str) -> str:
    word = name.removesuffix("_id").removeprefix("from_").removeprefix("to_")
    return RIGHT.get(word, word)


def _paths(route: APIRoute) -> Iterator[tuple[str, str]]:
    ids = [each.name for each in route.dependant.path_params if each.field_info.annotation is UUID]
    for name in sorted(set(ids) - WHOLE_LOG):
        path = route.path.replace(f"{{{name}}}", "{id}")
        for other in set(ids) - {name}:
            path = path.replace(f"{{{other}}}", UNKNOWN)
        yield path, name
    if "{" not in route.path:
        yield from (
            (f"{route.path}?{name}={{id}}", name)
            for name in sorted(_query_ids(route.dependant) - WHOLE_LOG)
        )


def _query_ids(dependant: Dependant) -> set[str]:
    own = {
        each.name for each in dependant.query_params if UUID in get_args(each.field_info.annotation)
    }
    return own.union(*map(_query_ids, dependant.dependencies))


def _model(route: APIRoute) -> type[BaseModel] | None:
    bodies = [each.field_info.annotation for each in route.dependant.body_params]
    return next(
        (each for each in bodies if isinstance(each, type) and issubclass(each, BaseModel)), None
    )


def _bodies(route: APIRoute) -> Iterator[tuple[dict[str, Any], str]]:
    model = _model(route)
    for body in BODIES.get(route.path, ()):
        (name,) = [
            n for n, v in body.items() if v is None or (isinstance(v, dict) and v["token"] is None)
        ]
        yield {**_filled(model, None), **body}, "wallet_id" if name == "payment_method" else name
    if model is not None and route.path not in BODIES:
        for name, each in model.model_fields.items():
            if UUID in (each.annotation, *get_args(each.annotation)):
                yield _filled(model, name), name


def _filled(model: type[BaseModel] | None, tried: str | None) -> dict[str, Any]:
    """The smallest valid body of a model; None for the tested id, unknown ids elsewhere."""
    body: dict[str, Any] = {}
    for name, each in (model.model_fields if model else {}).items():
        if name == tried:
            body[name] = None
        elif name in COMMON and each.is_required():
            body[name] = COMMON[name]
        elif each.is_required():
            body[name] = (
                UNKNOWN if each.annotation is UUID else 1 if each.annotation is int else "some text"
            )
    return body


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ids(shop: Shop) -> dict[str, UUID]:
    return await one_of_every_kind(shop)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(shop: Shop) -> AsyncIterator[list[Person]]:
    yield [await shop.register(role) for role in ("BUYER", "SELLER", "ADMIN")]


# -- aggregates ------------------------------------------------------------------------------------


async def test_every_event_belongs_to_the_aggregate_of_its_kind(shop: Shop) -> None:
    assert set(shop.core.log.codec.kinds.values()) == KINDS.keys()
    assert len(KINDS) == len(ALL)


@pytest.mark.parametrize(
    ("of", "taken_for"), PAIRS, ids=[f"{of} as {taken.kind}" for of, taken in PAIRS]
)
async def test_a_stream_loaded_as_another_kind_is_not_there_and_stays_as_it_was(
    shop: Shop, ids: dict[str, UUID], of: str, taken_for: Aggregate[object]
) -> None:
    repository, stream = Repository(shop.core.log), ids[of]
    assert await repository.state(taken_for, stream) is None, "read anew"
    state = await repository.state(KINDS[of], stream)
    assert await repository.cached(taken_for, stream) is None, "from the cache"

    async def emit(unit: UnitOfWork) -> None:
        assert await unit.load(taken_for, stream) is None
        unit.emit(stream, [await _first_event(shop, ids[taken_for.kind])])

    # personal events are refused earlier: that stream belongs to no person
    with pytest.raises((WrongKind, MissingKey)):
        await decide(repository, emit)
    assert (
        await repository.cached(KINDS[of], stream)
        == await Repository(shop.core.log).state(KINDS[of], stream)
        == state
    )


async def _first_event(shop: Shop, stream: UUID) -> Any:
    return (await shop.core.log.read_stream(stream))[0].event


# -- routes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tried", list(tries()), ids=str)
async def test_at_every_route_an_id_of_another_kind_is_as_an_unknown_one(
    shop: Shop, ids: dict[str, UUID], people: list[Person], tried: Try
) -> None:
    for person in people:
        unknown = await _ask(person, tried, ids, uuid4())
        assert unknown.status_code < 500, unknown.text
        for kind, stream in ids.items():
            if kind != tried.kind:
                answer = await _ask(person, tried, ids, stream)
                assert _gist(answer) == _gist(unknown), (
                    f"{kind}: {answer.status_code} {answer.text}"
                )


async def _ask(person: Person, tried: Try, ids: dict[str, UUID], stream: UUID) -> httpx.Response:
    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put(each) for name, each in value.items()}
        return str(stream) if value is None else str(ids[value]) if value in ids else value

    path = tried.path.replace("{id}", str(stream))
    return await person.client.request(
        tried.method, path, json=put(tried.body) if tried.body else None
    )


def _gist(answer: httpx.Response) -> tuple[int, str, int]:
    body = (
        answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else {}
    )
    return answer.status_code, body.get("code", ""), len(body.get("items", []))


@pytest.mark.parametrize(
    "path", ["/api/v1/catalog/products/by-seller/{}", "/api/v1/orders/user/{}"]
)
async def test_a_list_of_what_is_nobodys_is_not_there(
    shop: Shop, ids: dict[str, UUID], people: list[Person], path: str
) -> None:
    *others, admin = people
    for kind, stream in [*ids.items(), ("unknown", uuid4())]:
        answer = await admin.get(path.format(stream))
        wanted = (200, None) if kind == "user" else (404, "user_not_found")
        assert (answer.status_code, answer.json().get("code")) == wanted, kind
        assert {(await other.get(path.format(stream))).status_code for other in others} == {403}, (
            kind
        )
    assert (
        await admin.get("/api/v1/catalog/products/by-seller/" + str(PLATFORM_ID))
    ).status_code == 200


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"payment"}))
async def test_a_signed_notice_about_another_kind_of_thing_changes_nothing(
    shop: Shop, ids: dict[str, UUID], kind: str
) -> None:
    now, head = int(shop.core.clock.now().timestamp()), await shop.core.log.head()
    intent = {"id": f"pi_{uuid4().hex}", "amount": 1, "currency": "usd", "status": "succeeded"}
    about = {"object": {**intent, "metadata": {"payment_id": str(ids[kind])}}}
    body = json.dumps(
        {"id": f"evt_{uuid4()}", "type": "payment_intent.succeeded", "created": now, "data": about}
    )
    signature = {"Stripe-Signature": webhook_signature.sign(body.encode(), SECRET, now)}
    answer = await shop.client().post("/api/v1/payments/webhook", content=body, headers=signature)
    assert answer.status_code == 200, answer.text
    assert await shop.core.log.head() == head


async def test_after_all_that_every_stream_is_what_the_log_says(
    shop: Shop, ids: dict[str, UUID]
) -> None:
    for kind, stream in ids.items():
        cached = await shop.core.repository.cached(KINDS[kind], stream)
        assert cached == await Repository(shop.core.log).state(KINDS[kind], stream), kind
