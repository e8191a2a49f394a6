"""The state diagrams show exactly the transitions of the code."""

import inspect
import sys
from types import CodeType, FrameType, ModuleType

import pytest

from domain import cart, fulfilment, orders, payments, transactions
from domain.events import EVENTS, Event
from domain.payments import decisions, refunds
from runtime.events import state_machines
from runtime.events.state_machines import Machine, steps_of

MACHINES = list(state_machines.machines())
MODULES: dict[str, tuple[ModuleType, ...]] = {
    "order": (orders,),
    "payment": (decisions, refunds),
    "cart": (cart,),
    "shipment": (fulfilment,),
    "transaction": (transactions,),
}


def test_the_page_is_what_the_code_says() -> None:
    said = state_machines.PATH.read_text(encoding="utf-8")
    assert said == state_machines.markdown(), "run `python -m runtime.events.state_machines`"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.kind)
def test_every_event_of_the_aggregate_is_in_its_picture(machine: Machine) -> None:
    known = {
        name.rsplit(".", maxsplit=1)[0] for name, cls in EVENTS.items() if machine.kind == cls.KIND
    }
    assert {step.event for step in steps_of(machine)} == known


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.kind)
def test_every_decision_of_the_aggregate_is_tried(machine: Machine) -> None:
    modules = MODULES[machine.kind]
    decided = {
        function.__code__: name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and _makes_events(function)
    }
    tried: set[CodeType] = set()

    def note(frame: FrameType, kind: str, _: object) -> None:
        if kind == "call":
            tried.add(frame.f_code)

    sys.setprofile(note)
    try:
        steps_of(next(each for each in state_machines.machines() if each.kind == machine.kind))
    finally:
        sys.setprofile(None)
    assert decided
    assert {name for code, name in decided.items() if code not in tried} == set()


def _makes_events(function: object) -> bool:
    returned = inspect.signature(function).return_annotation  # type: ignore[arg-type]
    return "list[Event]" in str(returned).replace("domain.events.", "")


def test_a_payment_is_captured_from_wherever_it_stands_unless_it_was() -> None:
    """Written by hand, so that page and code cannot be wrong alike."""
    (machine,) = [each for each in MACHINES if each.kind == "payment"]
    captured = {
        step.before for step in steps_of(machine) if step.event == "payment.transaction.completed"
    }
    assert captured == payments.OPEN | {"FAILED", "CANCELLED"}


def test_a_step_that_no_decision_makes_is_not_in_the_picture() -> None:
    (machine,) = [each for each in MACHINES if each.kind == "order"]
    assert not [s for s in steps_of(machine) if s.before == "CANCELLED"], (
        "a cancelled order stays so"
    )
    undecided = machine._replace(decisions=[_confirmed])
    assert {(s.before, s.after) for s in steps_of(undecided)} == {
        ("", "PENDING_PAYMENT"),
        ("PENDING_PAYMENT", "CONFIRMED"),
    }


def _confirmed(order: orders.Order) -> list[Event]:
    return (
        [orders.OrderConfirmed(payment_id=order.payment_id)]
        if order.status == "PENDING_PAYMENT"
        else []
    )
