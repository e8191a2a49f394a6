"""Generate docs/state-machines.md: the statuses of orders, payments, carts, shipments and
transactions, and what leads from one to another.

The pictures are found by exploration. In every state that can be reached, every decision of the
domain is tried, its events are folded, and the statuses before and after each event are noted.
`machines` has the initial events and the decisions. Run `python -m runtime.events.state_machines`
after changing one. A test fails while the page is out of date.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain import cart, cart_review, fulfilment, orders, payments, transactions
from domain.catalog import Price
from domain.errors import Refused
from domain.events import Event
from domain.payments import refunds
from runtime.events.docs import DOCS

PATH = DOCS / "state-machines.md"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON, LATER, END = (
    NOW + timedelta(minutes=15),
    NOW + timedelta(minutes=20),
    NOW + timedelta(hours=1),
)
SEALED_AT = "somewhere"
replace = msgspec.structs.replace

Decide = Callable[[Any], list[Event]]
"""A decision on a state. Returns its events, perhaps none. May raise Refused."""


def an_id(number: int) -> UUID:
    """A fixed id for a number."""
    return UUID(int=number)


class Machine(NamedTuple):
    """An aggregate as a state machine. `bounded` cuts off whatever would grow without end
    (counters, ids of webhooks), so that there are finitely many states. `status_of` is the status
    that the picture shows."""

    title: str
    kind: str
    evolve: Callable[[Any, Event], Any]
    beginnings: Sequence[list[Event]]
    decisions: Sequence[Decide]
    status_of: Callable[[Any], str] = lambda state: str(state.status)
    bounded: Callable[[Any], Any] = lambda state: state


class Step(NamedTuple):
    """An event in one status. `before` is empty for the first event of a stream."""

    before: str
    event: str
    after: str


def steps_of(machine: Machine) -> set[Step]:
    """Every step that any sequence of decisions takes."""
    steps: set[Step] = set()
    reached: set[bytes] = set()
    waiting: list[Any] = []

    def take(state: Any, events: list[Event]) -> None:
        for event in events:
            before, state = state, machine.evolve(state, event)
            name = event.NAME.rsplit(".", maxsplit=1)[0]
            steps.add(
                Step(
                    "" if before is None else machine.status_of(before),
                    name,
                    machine.status_of(state),
                )
            )
        state = machine.bounded(state)
        if (key := msgspec.json.encode(state, enc_hook=sorted)) not in reached:
            reached.add(key)
            waiting.append(state)

    for beginning in machine.beginnings:
        take(None, beginning)
    while waiting:
        state = waiting.pop()
        for decide in machine.decisions:
            try:
                events = decide(state)
            except Refused:
                continue
            if events:
                take(state, events)
    return steps


def diagram(steps: set[Step]) -> list[str]:
    """Mermaid's lines for the steps that change the status, and a table of those that do not."""
    arrows: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    loops: defaultdict[str, set[str]] = defaultdict(set)
    for step in steps:
        if step.before == step.after:
            loops[step.event].add(step.before)
        else:
            arrows[step.before, step.after].add(step.event)
    left = {before for before, _ in arrows}
    lines = ["```mermaid", "stateDiagram-v2"]
    for (before, after), events in sorted(arrows.items()):
        lines.append(f"    {before or '[*]'} --> {after} : {', '.join(sorted(events))}")
    lines += [f"    {status} --> [*]" for status in sorted({after for _, after in arrows} - left)]
    lines.append("```")
    if loops:
        lines += ["", "| event that leaves the status as it is | in |", "|---|---|"]
        lines += [
            f"| `{event}` | {', '.join(sorted(statuses))} |"
            for event, statuses in sorted(loops.items())
        ]
    return lines


# -- the aggregates --------------------------------------------------------------------------------


def machines() -> Iterator[Machine]:
    """The aggregates that have a picture, each with initial events and all decisions about it."""
    yield _order()
    yield _payment()
    yield _cart()
    yield _shipment()
    yield _transaction()


def _order() -> Machine:
    line = orders.OrderLine(an_id(1), an_id(2), an_id(3), "DIGITAL", "Game", 1, 2, 1000)
    place = partial(
        orders.place,
        buyer_id=an_id(4),
        region="US",
        currency="USD",
        payment_id=an_id(5),
        expires_at=SOON,
        shipping_address={"city": "Portland"},
    )
    return Machine(
        "Order",
        "order",
        orders.evolve,
        beginnings=[
            place(lines=[line]),
            place(lines=[replace(line, unit_price_cents=0)]),
            place(lines=[replace(line, kind="PHYSICAL", shipment_id=an_id(6))]),
        ],
        decisions=[
            partial(orders.confirm, paid_at=NOW),
            partial(orders.confirm, paid_at=LATER),
            *(partial(_followed, status=step) for step in ("PROCESSING", "SHIPPED", "DELIVERED")),
            partial(orders.cancel, reason="cancelled_by_buyer"),
            partial(orders.expire, now=LATER),
            *(partial(orders.record_refund, amount_cents=cents) for cents in (0, 1, 2)),
            *(partial(orders.reverse_refund, amount_cents=cents) for cents in (1, 2)),
        ],
    )


def _followed(order: orders.Order, status: orders.FulfilmentStatus) -> list[Event]:
    """An order follows only its own shipments."""
    return (
        orders.advance_fulfilment(order, status, order.shipment_ids[0])
        if order.shipment_ids
        else []
    )


def _payment() -> Machine:
    card, wallet = payments.Method("card", "pm_card_visa"), payments.Method("wallet", str(an_id(1)))
    request = partial(payments.request, buyer_id=an_id(2), currency="USD", expires_at=SOON)
    intent = payments.NoticedIntent(
        provider="p",
        provider_ref="pi",
        amount_cents=2,
        currency="USD",
        redirect_url="https://p",
        refunded_cents=1,
    )
    intent_types = ("succeeded", "payment_failed", "requires_action", "processing", "canceled")
    notice_types = (*(f"payment_intent.{each}" for each in intent_types), "charge.refunded")
    states: tuple[payments.RefundState, ...] = ("PENDING", "SUCCEEDED", "FAILED")
    asked = an_id(7)
    return Machine(
        "Payment",
        "payment",
        payments.evolve,
        beginnings=[
            request(order_id=an_id(3), amount_cents=2),
            request(order_id=an_id(3), amount_cents=2, method=card),
            request(order_id=an_id(3), amount_cents=2, method=wallet),
            request(order_id=an_id(3), amount_cents=0),
            request(transaction_id=an_id(4), amount_cents=2, method=card),
        ],
        decisions=[
            partial(payments.attach_method, method=card, now=NOW),
            lambda payment: payments.submit(payment, "p", payment.attempt + 1, NOW),
            partial(
                payments.record_intent, provider="p", provider_ref="pi", client_secret_ref=SEALED_AT
            ),
            partial(
                payments.require_action,
                provider_ref="pi",
                redirect_url="https://p",
                client_secret_ref=SEALED_AT,
            ),
            partial(payments.process, provider="p", provider_ref="pi"),
            lambda payment: payments.capture(
                payment, payment.method.type if payment.method else "free"
            ),
            partial(payments.fail, code="card_declined", detail=""),
            partial(payments.cancel_intent, reason="order_cancelled"),
            *(
                partial(payments.apply_notice, notice_event_id="n", type=each, intent=intent)
                for each in notice_types
            ),
            *(
                partial(
                    payments.apply_refund_notice,
                    notice_event_id="n",
                    type="refund.updated",
                    refund=refunds.NoticedRefund(provider_ref="re", amount_cents=2, state=state),
                    provider="p",
                    intent_ref="pi",
                )
                for state in states
            ),
            *(
                partial(refunds.request_refund, refund_id=asked, amount_cents=n, reason="r")
                for n in (0, 1, 2)
            ),
            *(
                partial(refunds.settle_refund, refund_id=asked, state=state, provider_ref=ref)
                for state in states
                for ref in (None, "re-ours")
            ),
            partial(refunds.return_surplus, provider_ref="pi"),
        ],
        bounded=lambda payment: replace(
            payment,
            attempt=min(payment.attempt, 1),
            failures=int(payment.failures > payment.failure_notices),
            failure_notices=0,
            notices=frozenset(),
            failure_code=None,
            failure_detail=None,
            provider=None,
            client_secret_ref=None,
        ),
    )


def _cart() -> Machine:
    lines = [
        cart.Item(an_id(n), an_id(n + 2), an_id(9), "sku", "Game", 1, 100, an_id(n + 4))
        for n in (1, 2)
    ]
    digital = replace(lines[1], reservation_id=None)
    dearer = Price(region="*", amount_cents=200, currency="USD")

    def reviewed(found: cart_review.LineNow) -> Decide:
        return lambda state: (
            cart_review.review(state, dict.fromkeys(state.items, found), SOON)[1]
            if state.is_open(NOW)
            else []
        )

    return Machine(
        "Cart",
        "cart",
        cart.evolve,
        beginnings=[cart.create(an_id(8), "USD", SOON, END)],
        decisions=[
            partial(
                cart.add, item=lines[0], currency="USD", expires_at=SOON, digital=False, now=NOW
            ),
            partial(cart.add, item=digital, currency="USD", expires_at=SOON, digital=True, now=NOW),
            partial(
                cart.change, item_id=an_id(1), quantity=2, expires_at=SOON, now=NOW, price=dearer
            ),
            partial(cart.remove, item_id=an_id(1), expires_at=SOON, now=NOW),
            reviewed(cart_review.LineNow(None, 0)),
            reviewed(cart_review.LineNow(dearer, 1)),
            reviewed(cart_review.LineNow(replace(dearer, currency="EUR"), 1)),
            partial(cart.check_out, order_id=an_id(6), payment_id=an_id(7), now=NOW),
            cart.complete,
            cart.abandon,
            partial(cart.expire, now=LATER),
            cart.show_expiry,
            cart.discard,
            cart.close,
            cart.abandon_empty,
        ],
    )


def _shipment() -> Machine:
    line = fulfilment.ShipmentLine(an_id(1), an_id(2), "Game", 1)
    return Machine(
        "Shipment",
        "shipment",
        fulfilment.evolve,
        beginnings=[fulfilment.create(an_id(3), an_id(4), [line])],
        decisions=[
            fulfilment.confirm,
            partial(fulfilment.cancel, now=NOW),
            partial(fulfilment.process, now=NOW),
            partial(fulfilment.ship, carrier="UPS", tracking_number="1Z", now=NOW),
            partial(fulfilment.deliver, at=None, now=NOW),
            partial(fulfilment.deliver_by_hand, at=NOW - timedelta(minutes=1), now=NOW, reason="r"),
        ],
        status_of=lambda each: (
            "PROVISIONAL" if each.provisional and each.status == "PENDING" else str(each.status)
        ),
    )


def _transaction() -> Machine:
    money: dict[str, Any] = {"user_id": an_id(1), "amount_cents": 2, "currency": "USD"}
    return Machine(
        "Transaction",
        "transaction",
        transactions.evolve,
        beginnings=[
            transactions.deposit(to_wallet_id=an_id(2), payment_id=an_id(3), **money),
            transactions.transfer(from_wallet_id=an_id(4), to_wallet_id=an_id(2), **money),
            transactions.payment(
                from_wallet_id=an_id(4), order_id=an_id(5), payment_id=an_id(3), **money
            ),
        ],
        decisions=[
            transactions.process,
            transactions.complete,
            partial(transactions.fail, step="charge", code="card_declined"),
            partial(transactions.reverse, refund_id=an_id(6), amount_cents=1, recovered_cents=1),
            partial(transactions.reinstate, refund_id=an_id(6), amount_cents=1),
        ],
        bounded=lambda each: replace(each, reversed_cents=min(each.reversed_cents, 2)),
    )


def markdown() -> str:
    """The text of the page."""
    lines = [
        "# State machines",
        "",
        (
            "Made from the code by `python -m runtime.events.state_machines`: the domain's"
            " decisions are tried on every state"
        ),
        (
            "that they lead to, and each arrow is an event that one of them made. No decision makes"
            " an arrow that is not"
        ),
        (
            "here. [events.md](events.md) says what each event means. `PROVISIONAL` is a shipment"
            " that is `PENDING` while"
        ),
        "its order is not paid yet.",
    ]
    for machine in machines():
        lines += ["", f"## {machine.title}", "", *diagram(steps_of(machine))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(markdown(), encoding="utf-8")
