"""The operator's HTTP server: the shop reports receipts and reads books here, and people see a
receipt as a page."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path as FilePath
from typing import Annotated
from uuid import UUID

from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from msgspec.structs import asdict
from pydantic import BaseModel, ConfigDict, Field

from adapters.direct_route import DirectRoute
from adapters.fiscal.simulator.books import Books, Receipt, Refusal, Sale
from adapters.own_pages import OwnPages
from adapters.traced_requests import TracedRequests
from domain.money import format_amount

IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
Year = Annotated[int, Path(ge=2000, le=9999)]


class NewReceipt(BaseModel):
    """The body of POST /v1/receipts; the amount is in the smallest unit of the currency."""

    model_config = ConfigDict(extra="forbid")

    seller_id: UUID
    year: Annotated[int, Field(strict=True, ge=2000, le=9999)]
    number: Annotated[int, Field(strict=True, ge=1, le=10**9)]
    order_id: UUID
    amount_cents: Annotated[int, Field(strict=True, gt=0, le=10**12)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]


class ListedReceipt(NewReceipt):
    """A receipt in the operator's books."""

    reference: str
    url: str


class ReceiptList(BaseModel):
    receipts: list[ListedReceipt]


async def _books(request: Request) -> Books:
    books: Books = request.app.state.books
    return books


TheBooks = Annotated[Books, Depends(_books)]


async def _must_have_key(
    request: Request, authorization: Annotated[str, Header(max_length=500)] = ""
) -> None:
    """A receipt's page is public; reporting and reading books requires the key, if one is set."""
    key: str = request.app.state.api_key
    if key and not secrets.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
        raise HTTPException(401, "send the API key as Authorization: Bearer KEY")


router = APIRouter()
api = APIRouter(prefix="/v1", dependencies=[Depends(_must_have_key)])


async def issue(request: Request, body: NewReceipt, key: IdempotencyKey) -> Response:
    """Report a sale under its number. A repeat under the same key gets the same answer; 409 for a
    number, an order or a key that was used for another receipt."""
    books = await _books(request)
    receipt = books.issue(Sale(**dict(body)), key)
    return JSONResponse({"reference": receipt.reference, "url": _url(request, receipt)})


api.add_api_route(
    "/receipts",
    issue,
    methods=["POST"],
    response_model=dict[str, str],
    route_class_override=DirectRoute,
)


@api.get("/receipts")
async def list_since(
    request: Request,
    books: TheBooks,
    since: Annotated[int, Query(ge=0, le=10**12)] = 0,
    after: Annotated[str | None, Query(max_length=255)] = None,
) -> ReceiptList:
    """The next receipts of all books, issued since a time (unix seconds), in the order of issue.
    `after` is the last reference of the previous page; an empty page is the end."""
    return _listed(request, books.since(since, after))


@api.get("/orders/{order_id}/receipts")
async def list_of_order(
    request: Request, books: TheBooks, order_id: UUID, seller_id: UUID
) -> ReceiptList:
    """The receipt that a seller has reported for an order, if any."""
    found = books.of_order(seller_id, order_id)
    return _listed(request, [] if found is None else [found])


@api.get("/books/{seller_id}/{year}/receipts")
async def list_of_book(
    request: Request,
    books: TheBooks,
    seller_id: UUID,
    year: Year,
    from_number: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> ReceiptList:
    """The first receipts of a book with this number or a higher one, in
    the order of their numbers."""
    return _listed(request, books.from_number(seller_id, year, from_number))


@api.get("/books/{seller_id}/{year}")
async def book(books: TheBooks, seller_id: UUID, year: Year) -> dict[str, int | list[int]]:
    """A seller's year: the number of receipts, the highest number, and the missing numbers below
    it."""
    found = books.book(seller_id, year)
    return {"issued": found.issued, "last_number": found.last_number, "gaps": found.gaps}


@router.get("/receipts/{reference}", response_class=HTMLResponse)
async def show(books: TheBooks, reference: str) -> HTMLResponse:
    """A receipt as a page."""
    receipt = books.receipt(reference)
    if receipt is None:
        return HTMLResponse(_page("No such receipt", [("Reference", reference)]), 404)
    return HTMLResponse(_page(f"Receipt {receipt.sale.number}/{receipt.sale.year}", _rows(receipt)))


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the server works."""
    return {"status": "ok"}


def create_app(store_path: FilePath, public_url: str, api_key: str = "") -> FastAPI:
    """The operator's server, to be run by uvicorn in one process. `store_path` is its SQLite file,
    which no other process may have open; `public_url` is where people reach it; `api_key` is
    required of API callers, if set."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with contextlib.closing(Books(store_path)) as app.state.books:
            yield

    app = FastAPI(title="Simulated fiscal operator", lifespan=lifespan)
    app.add_middleware(OwnPages)
    app.add_middleware(TracedRequests)
    app.state.public_url = public_url.rstrip("/")
    app.state.api_key = api_key
    app.include_router(router)
    app.include_router(api)
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    return app


def _url(request: Request, receipt: Receipt) -> str:
    return f"{request.app.state.public_url}/receipts/{receipt.reference}"


def _listed(request: Request, receipts: list[Receipt]) -> ReceiptList:
    return ReceiptList(
        receipts=[
            ListedReceipt(**asdict(each.sale), reference=each.reference, url=_url(request, each))
            for each in receipts
        ]
    )


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return JSONResponse({"code": error.code, "message": error.message}, 409)


async def _refuse_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return JSONResponse({"code": "invalid_receipt", "message": f"{where}: {first['msg']}"}, 422)


def _rows(receipt: Receipt) -> list[tuple[str, str]]:
    sale = receipt.sale
    return [
        ("Amount", format_amount(sale.amount_cents, sale.currency)),
        ("Issued", f"{datetime.fromtimestamp(receipt.issued_at, UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("Order", str(sale.order_id)),
        ("Seller", str(sale.seller_id)),
        ("Reference", receipt.reference),
    ]


_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; --ground: #f1efe9; --card: #fff; --ink: #1c1b26;
           --muted: #5f5c6b; --line: #d9d6cd; }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ground: #12131a; --card: #1b1d27; --ink: #ebebf2; --muted: #a5a9bb;
             --line: #3a3e52; }}
  }}
  body {{ font: 1rem/1.55 system-ui, sans-serif; background: var(--ground); color: var(--ink);
          margin: 0; padding: 1rem; }}
  main {{ max-width: 32rem; margin: 8vh auto; padding: 2rem; background: var(--card);
          border-radius: .5rem; box-shadow: 0 8px 30px #0002; }}
  h1 {{ font-size: 1.5rem; margin: 0 0 1rem; }}
  dl {{ border-block: 2px dashed var(--line); margin: 0; padding-block: .75rem; }}
  dt {{ color: var(--muted); font-size: .875rem; }}
  dd {{ font-variant-numeric: tabular-nums; margin: 0 0 .6rem; overflow-wrap: anywhere; }}
  small {{ color: var(--muted); }}
</style>
</head>
<body><main>
<h1>{title}</h1>
<dl>
{rows}
</dl>
<p><small>Simulated: of no worth to any tax office.</small></p>
</main></body>
</html>
"""


def _page(title: str, rows: list[tuple[str, str]]) -> str:
    shown = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return _LAYOUT.format(title=escape(title), rows=shown)
