"""The client of the fiscal operator, over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from adapters.fiscal.client import HttpFiscalOperator
from commands.ports.fiscal import IssuedReceipt, KnownReceipt, OperatorRefused, OperatorUnavailable
from tests.support.servers.fiscal import running_operator
from tests.support.servers.provider import http, server_that_answers


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_operator(tmp_path_factory.mktemp("fiscal") / "fiscal.sqlite3") as url:
        yield url


@pytest.fixture
async def operator(url: str) -> AsyncIterator[HttpFiscalOperator]:
    operator = HttpFiscalOperator(url)
    yield operator
    await operator.aclose()


async def issue(
    operator: HttpFiscalOperator,
    seller_id: UUID,
    number: int,
    *,
    order_id: UUID | None = None,
    amount_cents: int = 1999,
    key: str | None = None,
) -> IssuedReceipt:
    return await operator.issue(
        seller_id=seller_id,
        year=2026,
        number=number,
        order_id=order_id or uuid4(),
        amount_cents=amount_cents,
        currency="USD",
        idempotency_key=key or f"{seller_id}/2026/{number}",
    )


def book(url: str, seller_id: UUID) -> dict[str, object]:
    return dict(httpx.get(f"{url}/v1/books/{seller_id}/2026").json())


@pytest.mark.parametrize("number", [1, 0])
def test_the_way_to_the_endpoint_does_not_change_the_answer(url: str, number: int) -> None:
    """FastAPI handles a content type with parameters, DirectRoute one without."""
    ids = {"seller_id": str(uuid4()), "order_id": str(uuid4())}
    sale = ids | {"year": 2026, "number": number, "amount_cents": 1999, "currency": "USD"}
    answers = [
        httpx.post(
            f"{url}/v1/receipts",
            content=msgspec.json.encode(sale),
            headers={"Content-Type": each, "Idempotency-Key": ids["order_id"]},
        )
        for each in ("application/json", "application/json; charset=utf-8")
    ]
    assert len({(each.status_code, each.content) for each in answers}) == 1
    assert len({tuple(each.headers.keys()) for each in answers}) == 1


async def test_a_receipt_can_be_seen_by_people(operator: HttpFiscalOperator) -> None:
    order_id = uuid4()
    issued = await issue(operator, uuid4(), 1, order_id=order_id)
    assert issued.url is not None
    page = await asyncio.to_thread(httpx.get, issued.url)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Receipt 1/2026" in page.text
    assert str(order_id) in page.text
    assert "19.99 USD" in page.text
    assert (await asyncio.to_thread(httpx.get, issued.url + "x")).status_code == 404


async def test_the_same_receipt_reported_again_is_the_receipt_of_then(
    operator: HttpFiscalOperator, url: str
) -> None:
    seller_id, order_id = uuid4(), uuid4()
    first = await issue(operator, seller_id, 1, order_id=order_id)
    assert await issue(operator, seller_id, 1, order_id=order_id) == first
    assert book(url, seller_id) == {"issued": 1, "last_number": 1, "gaps": []}


async def test_a_number_an_order_and_a_key_are_good_for_one_receipt(
    operator: HttpFiscalOperator, url: str
) -> None:
    seller_id, order_id = uuid4(), uuid4()
    await issue(operator, seller_id, 1, order_id=order_id)
    for code, other in {
        "number_used": {"number": 1, "key": "another"},
        "order_reported": {"number": 2, "order_id": order_id},
        "idempotency_key_reused": {"number": 1, "order_id": order_id, "amount_cents": 5},
    }.items():
        with pytest.raises(OperatorRefused) as refused:
            await issue(operator, seller_id, **other)  # type: ignore[arg-type]
        assert refused.value.code == code
    assert book(url, seller_id) == {"issued": 1, "last_number": 1, "gaps": []}


async def test_receipts_may_come_in_any_order_and_missing_ones_are_listed(
    operator: HttpFiscalOperator, url: str
) -> None:
    seller_id = uuid4()
    for number in (5, 2):
        await issue(operator, seller_id, number)
    assert book(url, seller_id) == {"issued": 2, "last_number": 5, "gaps": [1, 3, 4]}
    for number in (4, 1, 3):
        await issue(operator, seller_id, number)
    assert book(url, seller_id) == {"issued": 5, "last_number": 5, "gaps": []}


async def test_a_far_number_does_not_cost_a_list_of_all_below_it(
    operator: HttpFiscalOperator, url: str
) -> None:
    seller_id = uuid4()
    await issue(operator, seller_id, 10**9)
    assert book(url, seller_id)["gaps"] == list(range(1, 101))


async def test_what_makes_no_sense_is_refused(operator: HttpFiscalOperator) -> None:
    for nonsense in ({"number": 0}, {"number": 1, "amount_cents": 0}):
        with pytest.raises(OperatorRefused) as refused:
            await issue(operator, uuid4(), **nonsense)  # type: ignore[arg-type]
        assert refused.value.code == "invalid_receipt"


async def test_an_operator_that_is_away_is_unavailable_and_knows_its_books_when_it_is_back(
    tmp_path: Path,
) -> None:
    seller_id, order_id = uuid4(), uuid4()
    with running_operator(tmp_path / "fiscal.sqlite3") as url:
        operator = HttpFiscalOperator(url)
        first = await issue(operator, seller_id, 1, order_id=order_id)
    with pytest.raises(OperatorUnavailable):
        await issue(operator, seller_id, 2)
    with running_operator(tmp_path / "fiscal.sqlite3", int(url.rpartition(":")[2])):
        assert await issue(operator, seller_id, 1, order_id=order_id) == first
    await operator.aclose()


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        ("202 Accepted", {"reference": "r-1"}),
        ("200 OK", {"reference": "r-1", "status": "pending"}),
        ("200 OK", {"reference": "r-1", "status": "accepted"}),
        ("200 OK", {"reference": "r-1", "status": "IN_REVIEW"}),
        ("202 Accepted", {}),
        ("200 OK", {}),
    ],
)
async def test_a_receipt_that_was_taken_in_is_not_issued_yet(
    head: str, answer: dict[str, str]
) -> None:
    issued = {"reference": "r-1", "status": "ISSUED"}
    bodies = [http(head, msgspec.json.encode(answer)), http("200 OK", msgspec.json.encode(issued))]
    async with server_that_answers(*bodies) as (url, _):
        operator = HttpFiscalOperator(url)
        with pytest.raises(OperatorUnavailable):
            await issue(operator, uuid4(), 1)
        assert await issue(operator, uuid4(), 1) == IssuedReceipt("r-1")
        await operator.aclose()


async def test_a_receipt_that_the_operator_decided_against_is_refused() -> None:
    answer = msgspec.json.encode(
        {"reference": "r-1", "status": "rejected", "code": "tax_id_unknown"}
    )
    async with server_that_answers(http("200 OK", answer)) as (url, _):
        operator = HttpFiscalOperator(url)
        with pytest.raises(OperatorRefused, match="tax_id_unknown"):
            await issue(operator, uuid4(), 1)
        await operator.aclose()


async def test_what_the_operator_has_can_be_listed_by_book_by_order_and_by_issue(
    operator: HttpFiscalOperator,
) -> None:
    seller_id, orders = uuid4(), {number: uuid4() for number in (3, 1, 7)}
    since = datetime.now(UTC) - timedelta(seconds=2)
    issued = {
        number: await issue(operator, seller_id, number, order_id=order)
        for number, order in orders.items()
    }
    known = {
        number: KnownReceipt(
            seller_id, 2026, number, order, 1999, "USD", issued[number].ref, issued[number].url
        )
        for number, order in orders.items()
    }
    assert await operator.receipts_from(seller_id, 2026, 1) == [known[1], known[3], known[7]]
    assert await operator.receipts_from(seller_id, 2026, 4) == [known[7]]
    assert await operator.receipts_from(seller_id, 2027, 1) == []
    assert await operator.receipt_of(seller_id, orders[3]) == known[3]
    assert await operator.receipt_of(uuid4(), orders[3]) is None
    listed = await operator.receipts_since(since, None)
    assert [each for each in listed if each.seller_id == seller_id] == [
        known[3],
        known[1],
        known[7],
    ]
    assert await operator.receipts_since(since, known[3].reference) == [known[1], known[7]]
    assert await operator.receipts_since(since + timedelta(days=1), None) == []


LISTED = {
    "seller_id": str(uuid4()),
    "year": 2026,
    "number": 2,
    "order_id": str(uuid4()),
    "amount_cents": 5,
}


@pytest.mark.parametrize(
    "body",
    [
        b'{"receipts": []}' + b" " * (1 << 20),
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"receipts": [{"number": 1}]}',
        msgspec.json.encode(
            {"receipts": [{**LISTED, "currency": "USD", "reference": "r", "number": 10**30}]}
        ),
        msgspec.json.encode(
            {"receipts": [{**LISTED, "currency": "USD", "reference": "r" * 10_000}]}
        ),
    ],
    ids=[
        "too long",
        "no text",
        "too deep",
        "half a receipt",
        "a number beyond all",
        "an endless reference",
    ],
)
async def test_a_book_that_cannot_be_read_is_as_none(body: bytes) -> None:
    async with server_that_answers(http("200 OK", body)) as (url, _):
        operator = HttpFiscalOperator(url)
        with pytest.raises(OperatorUnavailable):
            await operator.receipts_from(UUID(str(LISTED["seller_id"])), 2026, 2)
        await operator.aclose()


async def test_receipts_of_another_book_are_not_taken_for_those_that_were_asked_for() -> None:
    body = msgspec.json.encode({"receipts": [{**LISTED, "currency": "USD", "reference": "r"}]})
    async with server_that_answers(*[http("200 OK", body)] * 4) as (url, _):
        operator = HttpFiscalOperator(url)
        seller_id = UUID(str(LISTED["seller_id"]))
        assert len(await operator.receipts_from(seller_id, 2026, 2)) == 1
        assert await operator.receipts_from(uuid4(), 2026, 2) == []
        assert await operator.receipts_from(seller_id, 2026, 3) == []
        assert await operator.receipt_of(seller_id, uuid4()) is None
        await operator.aclose()
