"""Invariants over rows of read models, each an SQL query for what violates it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from runtime.self_audit.invariant import Judged, Looked, Moments, Progress, Suspect, judged
from runtime.self_audit.moment import Moment, Part


@dataclass(frozen=True)
class RowsInvariant:
    """An invariant of rows that a stream of this `kind` feeds.

    The query returns `subject`, `detail` and `streams` of each violation (`Suspect`); the subject's
    first word is the id of the stream by which the query is limited to some `ids`, unless they are
    null. `of` is the query's main read model, and the condition for its rows.
    """

    name: str
    meaning: str
    kind: str
    of: str
    query: str

    def sample(self, moment: Moment, part: Part) -> Looked:
        ids = part.streams.get(self.kind, ())
        return Looked(len(ids), self._violations(moment, ids) if ids else ())

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        with moments() as moment:
            count = moment.rows(f"SELECT count(*) AS n FROM {self.of}")[0]["n"]
            found = Looked(count, self._violations(moment, None))
        progress(count, count)
        return found

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        ids = list({UUID(subject.split(" ", 1)[0]) for subject in subjects})
        return judged(subjects, self._violations(moment, ids, caught_up=True))

    def _violations(
        self, moment: Moment, ids: Sequence[UUID] | None, **values: object
    ) -> list[Suspect]:
        wanted = None if ids is None else list(ids)
        return [Suspect(**row) for row in moment.rows(self.query, ids=wanted, **values)]


@dataclass(frozen=True)
class TotalInvariant:
    """An invariant that is cheap to look at as a whole, each time."""

    name: str
    meaning: str
    of: str
    query: str

    def sample(self, moment: Moment, part: Part) -> Looked:  # noqa: ARG002 - always all of it
        return self._look(moment)

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        with moments() as moment:
            found = self._look(moment)
        progress(found.checked, found.checked)
        return found

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        return judged(subjects, self._look(moment, caught_up=True).suspects)

    def _look(self, moment: Moment, **values: object) -> Looked:
        count = moment.rows(f"SELECT count(*) AS n FROM {self.of}")[0]["n"]
        return Looked(count, [Suspect(**row) for row in moment.rows(self.query, **values)])


_SIGNED = "CASE direction WHEN 'credit' THEN amount_cents ELSE -amount_cents END"

LEDGER_TRANSACTION = RowsInvariant(
    "ledger_transaction_balances",
    "In each ledger transaction, debits equal credits, in each currency.",
    "ledger",
    "@ledger_entries",
    f"""
    SELECT ledger_transaction_id::text AS subject, '{{}}'::uuid[] AS streams,
        format('credits minus debits are %%s %%s', sum({_SIGNED}), currency) AS detail
    FROM @ledger_entries
    WHERE %(ids)s::uuid[] IS NULL OR ledger_transaction_id = ANY (%(ids)s)
    GROUP BY ledger_transaction_id, currency HAVING sum({_SIGNED}) <> 0""",
)

TRIAL_BALANCE = TotalInvariant(
    "trial_balance",
    "Over all accounts of the ledger, debits equal credits, in each currency.",
    "@ledger_accounts",
    """
    SELECT currency AS subject, '{}'::uuid[] AS streams,
        format('debits %%s, credits %%s, sum of balances %%s',
            sum(debits_cents), sum(credits_cents), sum(balance_cents)) AS detail
    FROM @ledger_accounts WHERE currency <> '' GROUP BY currency
    HAVING sum(debits_cents) <> sum(credits_cents) OR sum(balance_cents) <> 0""",
)

WALLET = RowsInvariant(
    "wallet_equals_account",
    "Each wallet's balance is that of its account in the ledger.",
    "wallet",
    "@wallets",
    """
    SELECT w.wallet_id::text AS subject, ARRAY[w.wallet_id] AS streams,
        format('the wallet has %%s %%s, its account %%s',
            w.balance_cents, w.currency, coalesce(a.balance_cents, 0)) AS detail
    FROM @wallets w LEFT JOIN @ledger_accounts a
        ON a.account_id = 'WALLET:' || w.wallet_id AND a.currency = w.currency
    WHERE (%(ids)s::uuid[] IS NULL OR w.wallet_id = ANY (%(ids)s))
        AND w.balance_cents <> coalesce(a.balance_cents, 0)""",
)

STOCK = RowsInvariant(
    "stock_adds_up",
    "Of each stock, available + reserved + allocated = total, none below zero, and its holds add up"
    " to what is reserved and allocated.",
    "inventory",
    "@stock WHERE stock_id = hold_id",
    """
    SELECT s.stock_id::text AS subject, '{}'::uuid[] AS streams,
        format('total %%s, available %%s, reserved %%s (holds %%s), allocated %%s (holds %%s)',
            s.total, s.available, s.reserved, h.reserved, s.allocated, h.allocated) AS detail
    FROM @stock s CROSS JOIN LATERAL (
        SELECT coalesce(sum(reserved), 0) AS reserved, coalesce(sum(allocated), 0) AS allocated
        FROM @stock WHERE stock_id = s.stock_id AND hold_id <> s.stock_id
    ) AS h
    WHERE s.stock_id = s.hold_id AND (%(ids)s::uuid[] IS NULL OR s.stock_id = ANY (%(ids)s)) AND (
        s.available + s.reserved + s.allocated <> s.total OR s.reserved <> h.reserved
        OR s.allocated <> h.allocated OR least(s.available, s.reserved, s.allocated) < 0)""",
)

_GIVEN_BACK = """(
    SELECT coalesce(sum((refund ->> 'amount_cents')::bigint), 0)
    FROM jsonb_array_elements(p.refunds) AS refund WHERE refund ->> 'status' <> 'FAILED'
)"""

CAPTURE = RowsInvariant(
    "capture_has_order_or_refund",
    "Each captured payment has a paid order of the same amount, or a completed deposit, or is"
    " refunded.",
    "payment",
    "@payments WHERE status IN ('CAPTURED', 'PARTIALLY_REFUNDED', 'REFUNDED')",
    f"""
    SELECT p.payment_id::text AS subject,
        array_remove(ARRAY[p.payment_id, p.order_id, p.transaction_id], NULL) AS streams,
        format('captured %%s %%s; order %%s is %%s; refunded or being refunded: %%s',
            p.amount_cents, p.currency, coalesce(p.order_id, p.transaction_id),
            coalesce(o.status, t.status, 'not there'), {_GIVEN_BACK}) AS detail
    FROM @payments p LEFT JOIN @orders o ON o.order_id = p.order_id
        LEFT JOIN @transactions t ON t.transaction_id = p.transaction_id
    WHERE (%(ids)s::uuid[] IS NULL OR p.payment_id = ANY (%(ids)s))
        AND p.status IN ('CAPTURED', 'PARTIALLY_REFUNDED', 'REFUNDED') AND (
            (o.order_id IS NULL AND t.transaction_id IS NULL)
            OR o.status = 'PENDING_PAYMENT' OR t.status IN ('PENDING', 'PROCESSING')
            OR (coalesce(o.status, t.status) IN ('CANCELLED', 'FAILED')
                AND {_GIVEN_BACK} < p.amount_cents)
            OR o.total_cents <> p.amount_cents)""",
)

_PAID = """
    '[{"status": "CONFIRMED"}]' <@ o.timeline AND NOT '[{"status": "REFUNDED"}]' <@ o.timeline"""
"""Whether an order `o` was paid, and never refunded wholly: a later reversal gives no game back."""

GRANT = RowsInvariant(
    "paid_game_is_granted",
    "Each digital game of a paid order is in its buyer's library through that order, and no longer"
    " once the order is wholly refunded.",
    "order",
    "@orders",
    f"""
    SELECT o.order_id || ' ' || (line ->> 'game_id') AS subject,
        ARRAY[o.order_id, o.payment_id] AS streams,
        format('the order is %%s, and the game is %%s', o.status,
            CASE WHEN g.game_id IS NULL THEN 'not granted' ELSE 'granted' END) AS detail
    FROM @orders o CROSS JOIN LATERAL jsonb_array_elements(o.lines) AS line
        LEFT JOIN @library g ON g.user_id = o.user_id AND g.order_id = o.order_id
            AND g.game_id = (line ->> 'game_id')::uuid
    WHERE (%(ids)s::uuid[] IS NULL OR o.order_id = ANY (%(ids)s)) AND line ->> 'kind' = 'DIGITAL'
        AND ({_PAID}) <> (g.game_id IS NOT NULL)""",
)

OWNED = RowsInvariant(
    "owned_game_was_bought",
    "Each game in a library was bought by its owner: a paid order has it among its lines.",
    "library",
    "@library",
    f"""
    SELECT g.library_id || ' ' || g.game_id AS subject,
        ARRAY[g.library_id, g.order_id] AS streams,
        format('through order %%s, which is %%s', g.order_id, coalesce(o.status, 'not there'))
            AS detail
    FROM @library g LEFT JOIN @orders o ON o.order_id = g.order_id AND o.user_id = g.user_id
    WHERE (%(ids)s::uuid[] IS NULL OR g.library_id = ANY (%(ids)s)) AND NOT coalesce(
        {_PAID} AND jsonb_build_array(jsonb_build_object('game_id', g.game_id)) <@ o.lines, false)
    """,
)

RECEIPT = RowsInvariant(
    "sale_has_receipt",
    "Each seller of a paid order has one fiscal receipt for it, or a job that gets it. Imported"
    " orders, and sellers who earned nothing, have none.",
    "order",
    "@orders",
    """
    SELECT o.order_id || ' ' || s.seller_id AS subject, ARRAY[o.order_id] AS streams,
        format('%%s receipts for %%s %%s', r.n, s.cents, o.currency) AS detail
    FROM @orders o CROSS JOIN LATERAL (
        SELECT line ->> 'seller_id' AS seller_id,
            sum((line ->> 'quantity')::bigint * (line ->> 'unit_price_cents')::bigint) AS cents
        FROM jsonb_array_elements(o.lines) AS line GROUP BY line ->> 'seller_id'
    ) AS s CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM @receipts
        WHERE order_id = o.order_id AND seller_id = s.seller_id::uuid
    ) AS r
    WHERE (%(ids)s::uuid[] IS NULL OR o.order_id = ANY (%(ids)s))
        AND '[{"status": "CONFIRMED"}]' <@ o.timeline AND s.cents > 0
        AND o.updated_at < %(late)s AND r.n <> 1 AND (r.n > 1 OR %(caught_up)s)
        AND (SELECT actor FROM log.events WHERE stream_id = o.order_id AND version = 1) <> 'import'
        AND (r.n > 1 OR NOT EXISTS (
            SELECT FROM queue.jobs WHERE queue = 'ludoteca.fiscal'
                AND body ->> 'order_id' = o.order_id::text AND body ->> 'seller_id' = s.seller_id))
    """,
)

REFUND_DAYS = 14
"""How long a refund may be under way: banks take up to ten working days."""

ERASED_DAYS = 1
"""How long traces of a forgotten person may be on the disk. The worker tries every ten minutes."""

SIGNED = TotalInvariant(
    "log_is_what_was_signed",
    "The log has the hash of each of the latest hundred signed checkpoints, and what is older than"
    " two hours is signed.",
    "log.tree_heads",
    """
    SELECT 'checkpoint ' || h.size AS subject, '{}'::uuid[] AS streams,
        format('signed at %%s; there the log has another hash, or none', h.made_at) AS detail
    FROM (SELECT * FROM log.tree_heads WHERE void IS NULL ORDER BY number DESC LIMIT 100) h
    LEFT JOIN log.events e ON e.position = h.size WHERE h.hash IS DISTINCT FROM e.hash
    UNION ALL
    SELECT 'unsigned', '{}', format('what comes after position %%s', s.size)
    FROM (SELECT max(size) AS size FROM log.tree_heads WHERE void IS NULL) s
    JOIN log.events e ON e.position = s.size + 1
    WHERE e.recorded_at < clock_timestamp() - interval '2 hours' AND %(caught_up)s""",
)
"""It is signed at least hourly (`LUDOTECA_CHECKPOINT_SECONDS`)."""

OVERDUE = TotalInvariant(
    "nothing_due_is_undone",
    "Deadlines are met, jobs are taken, consumers of the log that are not paused follow it, each"
    f" within the grace; a refund has its outcome within {REFUND_DAYS} days; who was forgotten is"
    f" erased from the disk within {ERASED_DAYS}.",
    "@deadlines",
    f"""
    SELECT 'deadline ' || subject_id || ' ' || kind AS subject, '{{}}'::uuid[] AS streams,
        format('due since %%s', due_at) AS detail
    FROM @deadlines WHERE due_at < %(late)s AND %(caught_up)s
    UNION ALL
    SELECT 'job ' || queue || ' ' || id, '{{}}', format('%%s, due since %%s', kind, due_at)
    FROM queue.jobs
    WHERE died_at IS NULL AND due_at < %(late)s AND set_at < %(late)s AND %(caught_up)s
    UNION ALL
    SELECT 'consumer ' || feed, '{{}}', format('at %%s, since %%s', c.position, c.updated_at)
    FROM consumers.feeds f JOIN consumers.checkpoints c USING (feed)
    WHERE c.updated_at < %(late)s AND %(caught_up)s AND NOT f.paused AND NOT f.building
        AND (f.storage = '' OR f.active AND (f.projection, f.version) IN (
            SELECT * FROM unnest(%(models)s::text[], %(versions)s::int[])))
        AND EXISTS (
            SELECT FROM log.events e WHERE e.position = c.position + 1 AND e.recorded_at < %(late)s)
    UNION ALL
    SELECT 'refund ' || payment_id, '{{}}', format('under way since %%s', updated_at)
    FROM @payments
    WHERE refund_status = 'PENDING' AND updated_at < %(now)s - interval '{REFUND_DAYS} days'
        AND %(caught_up)s
    UNION ALL
    SELECT 'forgotten ' || person_id, '{{}}', format('on the disk since %%s', destroyed_at)
    FROM private.erasures
    WHERE destroyed_at < %(now)s - interval '{ERASED_DAYS} days' AND %(caught_up)s""",
)
