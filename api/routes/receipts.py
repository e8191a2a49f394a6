"""Fiscal receipts of orders."""

from functools import partial
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from api.answers import answer
from api.auth import SignedIn
from api.reading import Reads, found
from api.services import ServicesOf
from api.views.receipts import ReceiptView, first_issued
from commands.aggregates import ORDER
from domain.errors import NotFound
from queries.engine.read_models import QueryResult, ReadModels
from queries.orders import orders as orders_query

router = APIRouter(prefix="/api/v1", tags=["orders"])


class OrderReceipts(ReceiptView):
    """The first issued receipt, and in `receipts` the receipts of all sellers."""

    receipts: list[ReceiptView]


@router.get("/orders/{order_id}/receipt", response_model=OrderReceipts)
async def get_receipt(
    order_id: UUID, services: ServicesOf, reads: Reads, caller: SignedIn
) -> Response:
    """Return the fiscal receipt of an order (its buyer, ADMIN). Errors: 404 `receipt_not_found`
    until one is issued; a free order gets none."""

    async def ask(models: ReadModels) -> QueryResult[orders_query.Order | None]:
        return await orders_query.order(models, order_id)

    past = partial(orders_query.order_as_of, services.log, order_id)
    order, position = await found(services, reads, ask, ORDER.missing, past)
    caller.must_act_for(order.user_id, "order")
    receipt = first_issued(order.receipts)
    if receipt is None:
        raise NotFound("receipt_not_found", "the order has no fiscal receipt (yet)")
    receipts = [ReceiptView.model_validate(each) for each in order.receipts]
    view = OrderReceipts(**ReceiptView.model_validate(receipt).model_dump(), receipts=receipts)
    return answer(view, position=position)
