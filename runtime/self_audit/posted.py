"""One posting, with one fee, for each payment that moves money: decided again from the log, and
compared."""

from collections.abc import Sequence
from uuid import UUID

from commands.aggregates import ORDER, PAYMENT, POSTING
from domain import ledger, postings
from domain.ledger import Entry, TransactionPosted
from eventstore.consumers.streams import folded
from runtime.self_audit.invariant import (
    Judged,
    Looked,
    Moments,
    Progress,
    Suspect,
    judged,
    windows,
)
from runtime.self_audit.moment import Moment, Part

_EVENT_IDS = """
SELECT position, event_id FROM log.events WHERE stream_id = ANY (%s) AND name = ANY (%s)
"""


class PaymentsArePosted:
    """For each order's payment: its capture, refunds and reversals are each posted once, under the
    id derived from the event, and to the cent as the order's lines say. What is posted twice has
    another id, or a second event: either shows."""

    name = "payment_is_posted_once"
    meaning = (
        "Each capture, refund and reversal of an order's payment is posted once, with the sellers'"
        " shares and the platform's fee to the cent; no posting is under another id than its"
        " cause's."
    )

    def sample(self, moment: Moment, part: Part) -> Looked:
        payments = part.streams.get(PAYMENT.kind, ())
        posted = part.streams.get(POSTING.kind, ())
        suspects = [*_unposted(moment, payments), *_misplaced(moment, posted)]
        return Looked(len(payments) + len(posted), suspects)

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        checked, suspects = 0, list[Suspect]()
        for moment, part in windows(moments, progress):
            looked = self.sample(moment, part)
            checked += looked.checked
            suspects += looked.suspects
        return Looked(checked, list({each.subject: each for each in suspects}.values()))

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        ids = [UUID(subject.split(" ")[0]) for subject in subjects]
        return judged(subjects, [*_unposted(moment, ids), *_misplaced(moment, ids)])


def _misplaced(moment: Moment, stream_ids: Sequence[UUID]) -> list[Suspect]:
    """Postings that are not the one of their cause."""
    suspects = []
    for stream_id, page in moment.events(stream_ids).items():
        posted = [event for _, event in page if isinstance(event, TransactionPosted)]
        if len(posted) > 1:
            suspects.append(Suspect(f"{stream_id}", f"posted {len(posted)} times"))
        elif posted and stream_id != ledger.transaction_id(posted[0].cause_event_id):
            detail = (
                f"posts event {posted[0].cause_event_id} under an id that is not derived from it"
            )
            suspects.append(Suspect(f"{stream_id}", detail))
    return suspects


def _unposted(moment: Moment, payment_ids: Sequence[UUID]) -> list[Suspect]:
    """Events of payments that are not posted as they should be. A payment is judged once nothing
    happened to it since all has followed."""
    pages = moment.events(payment_ids)
    payments = {
        payment_id: payment
        for payment_id, page in pages.items()
        if (payment := folded(PAYMENT, page)) is not None and payment.order_id is not None
    }
    orders = moment.events({each.order_id for each in payments.values() if each.order_id})
    ids = _event_ids(moment, list(payments))
    expected: dict[UUID, tuple[UUID, object, list[Entry]]] = {}
    suspects: list[Suspect] = []
    for payment_id, payment in payments.items():
        assert payment.order_id is not None
        order = folded(ORDER, orders[payment.order_id])
        if order is None:
            continue  # told by capture_has_order_or_refund
        page = pages[payment_id]
        events = [event for _, event in page]
        try:
            decided = list(postings.decided(events, payment, order.lines))
        except ValueError as error:  # more was refunded than paid
            suspects.append(Suspect(f"{payment_id}", str(error), [payment_id]))
            continue
        for number, entries in decided:
            posting_id = ledger.transaction_id(ids[page[number][0].position])
            expected[posting_id] = payment_id, events[number], entries
    found = moment.events(expected)
    for posting_id, (payment_id, event, entries) in expected.items():
        posted = folded(POSTING, found[posting_id])
        if posted is None or list(posted.entries) != entries:
            what = "not posted" if posted is None else f"posted as {_told(posted.entries)}"
            detail = f"{type(event).__name__}: {what}; it should be {_told(entries)}"
            suspects.append(Suspect(f"{payment_id} {posting_id}", detail, [payment_id]))
    return suspects


def _event_ids(moment: Moment, payment_ids: Sequence[UUID]) -> dict[int, UUID]:
    """By position, the ids of the events that move money."""
    names = moment.codec.names_of(postings.MOVING)
    return dict(moment.conn.execute(_EVENT_IDS, (list(payment_ids), names)).fetchall())


def _told(entries: Sequence[Entry]) -> str:
    return ", ".join(
        f"{entry.direction} {entry.account_id} {entry.amount_cents} {entry.currency}"
        for entry in entries
    )
