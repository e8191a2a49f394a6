"""What operators did: a row per act, in the order of the log.

Besides the acts that are recorded as such there are those that are an event of their own. Who acted
is the actor of the event at `position`: folds do not see it.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from domain.acts import INTERRUPTED as NOT_SEEN_TO_END
from domain.acts import ActBegun, ActEnded
from domain.amendments import AmendmentDeclared
from domain.disclosures import DisclosureMade
from domain.identity import (
    OPEN_TO_ALL,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
    UserRegistered,
)
from domain.named_texts import by_name
from domain.wallets import FundsAdded, FundsDeducted, WalletDeactivated, WalletReactivated
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on

BEGUN, DONE, FAILED, INTERRUPTED = "BEGUN", "DONE", "FAILED", "INTERRUPTED"

_STATUSES = {None: DONE, NOT_SEEN_TO_END: INTERRUPTED}

CLOSE, FORGET = "account.close", "account.forget"
"""What people also do to their own accounts: queries leave that out."""


class Act(Row):
    """An act on the `target`; `status` is BEGUN, DONE, FAILED, or INTERRUPTED if nobody saw it end.
    It was done to `affected` things, or failed with the `error`. `stream_id` and `stream_version`
    are those of the event that began it, at `position`."""

    KEY = ("stream_id", "stream_version")
    INDEXES = ("position", "act, position", "target, position", "status, position")

    stream_id: UUID
    stream_version: int
    position: int
    act: str
    target: str | None
    reason: str | None
    status: str
    affected: int | None
    error: str | None
    details: dict[str, str]
    at: datetime
    ended_at: datetime | None


def _place(_: object, env: Placed) -> tuple[UUID, int]:
    return env.stream_id, env.version


def _begin(_: object, env: Placed) -> tuple[UUID, int]:
    return env.stream_id, 1


def _adjustment(
    event: FundsAdded | FundsDeducted, env: Placed
) -> tuple[UUID, int] | list[tuple[UUID, int]]:
    """Wallets move mostly without an operator: only what no payment and no transaction caused was
    adjusted by hand. No row is looked up for the others."""
    by_hand = event.payment_id is None and event.transaction_id is None
    return _place(event, env) if by_hand else []


def _appointment(event: UserRegistered, env: Placed) -> tuple[UUID, int] | list[tuple[UUID, int]]:
    return [] if event.account_type in OPEN_TO_ALL else _place(event, env)


class Acts(Projection[Act]):
    """Every act of an operator, by the event that began it."""

    name, version, row = "acts", 1, Act

    @on(ActBegun, key=_place)
    def begun(self, rows: Rows[Act], event: ActBegun, env: Placed) -> None:
        rows.put(
            Act(
                stream_id=env.stream_id,
                stream_version=env.version,
                position=env.position,
                act=event.act,
                target=event.target,
                reason=event.reason,
                status=BEGUN,
                affected=None,
                error=None,
                details=by_name(event.details),
                at=env.occurred_at,
                ended_at=None,
            )
        )

    @on(ActEnded, key=_begin)
    def ended(self, rows: Rows[Act], event: ActEnded, env: Placed) -> None:
        act = rows[_begin(event, env)]
        act.status = _STATUSES.get(event.error, FAILED)
        act.affected = event.affected
        act.error = event.error
        act.details = {**act.details, **by_name(event.details)}
        act.ended_at = env.occurred_at

    @on(AmendmentDeclared, key=_place)
    def amended(self, rows: Rows[Act], event: AmendmentDeclared, env: Placed) -> None:
        details = {"reading": event.reading, "name": event.name}
        _done(rows, env, "amendment.declare", f"{event.position}", event.reason, details)

    @on(DisclosureMade, key=_place)
    def disclosed(self, rows: Rows[Act], event: DisclosureMade, env: Placed) -> None:
        details = {"kind": event.subject_kind, "persons": f"{len(event.person_ids)}"}
        _done(rows, env, "disclosure.make", f"{event.subject_id}", event.reason, details)

    @on(UserRegistered, key=_appointment)
    def appointed(self, rows: Rows[Act], event: UserRegistered, env: Placed) -> None:
        if event.account_type not in OPEN_TO_ALL:
            details = {"account_type": event.account_type}
            _done(rows, env, "account.create", f"{env.stream_id}", None, details)

    @on(UserDeactivated, key=_place)
    def closed(self, rows: Rows[Act], event: UserDeactivated, env: Placed) -> None:
        _done(rows, env, CLOSE, f"{env.stream_id}", event.reason)

    @on(UserForgotten, key=_place)
    def forgotten(self, rows: Rows[Act], _: UserForgotten, env: Placed) -> None:
        _done(rows, env, FORGET, f"{env.stream_id}", None)

    @on(UserReactivated, key=_place)
    def reopened(self, rows: Rows[Act], event: UserReactivated, env: Placed) -> None:
        _done(rows, env, "account.reopen", f"{env.stream_id}", event.reason)

    @on(WalletDeactivated, key=_place)
    def deactivated(self, rows: Rows[Act], event: WalletDeactivated, env: Placed) -> None:
        _done(rows, env, "wallet.deactivate", f"{env.stream_id}", event.reason)

    @on(WalletReactivated, key=_place)
    def reactivated(self, rows: Rows[Act], event: WalletReactivated, env: Placed) -> None:
        _done(rows, env, "wallet.reactivate", f"{env.stream_id}", event.reason)

    @on(FundsAdded, key=_adjustment)
    def added(self, rows: Rows[Act], event: FundsAdded, env: Placed) -> None:
        _adjusted(rows, env, event, event.amount_cents)

    @on(FundsDeducted, key=_adjustment)
    def deducted(self, rows: Rows[Act], event: FundsDeducted, env: Placed) -> None:
        _adjusted(rows, env, event, -event.amount_cents)


def _adjusted(rows: Rows[Act], env: Placed, event: FundsAdded | FundsDeducted, cents: int) -> None:
    if _adjustment(event, env):
        details = {"amount_cents": f"{cents}", "currency": event.currency}
        _done(rows, env, "wallet.adjust", f"{env.stream_id}", event.reason, details)


def _done(
    rows: Rows[Act],
    env: Placed,
    act: str,
    target: str,
    reason: str | None,
    details: Mapping[str, str] | None = None,
) -> None:
    rows.put(
        Act(
            stream_id=env.stream_id,
            stream_version=env.version,
            position=env.position,
            act=act,
            target=target,
            reason=reason,
            status=DONE,
            affected=1,
            error=None,
            details=dict(details or {}),
            at=env.occurred_at,
            ended_at=env.occurred_at,
        )
    )
