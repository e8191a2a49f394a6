"""`ludoteca whatif`: what would have been posted and sent under another setting."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure, unknown
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from runtime.what_if.ledger import LedgerChange
    from runtime.what_if.notices import NoticeChange
    from runtime.what_if.rules import Rules


def what_if(
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="SETTING=VALUE", help="What is to be otherwise; may be repeated."
        ),
    ],
    since: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="From when on, such as 2026-11-01 (UTC)."),
    ],
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Until when. Default: the end of the log."),
    ] = None,
    json: Json = False,
) -> None:
    """Decide again, from the log, what depends on a setting, and show by how much the ledger would
    differ, by account and month, or which notices of low stock would be sent. Nothing is written.

    platform_fee_bps: for orders placed in that time. tax_free_prices: a CSV file (region, tax_bps;
    `*` for all others), as if prices were without that tax. low_stock: the threshold, for what was
    counted or allocated in that time. docs/what-if.md says what is taken to stay as it was.

    [bold]Examples[/bold]
      ludoteca whatif --set platform_fee_bps=800 --from 2026-10-01
      ludoteca whatif --set tax_free_prices=rates.csv --from 2026-01-01 --until 2026-07-01 --json
    """
    from eventstore.consumers import checkpoints
    from runtime.what_if import ledger, notices
    from runtime.what_if.report import report_of
    from runtime.wiring.codec import codec

    end = None if until is None else _time("--until", until)
    rules = _rules(settings, _time("--from", since), end)
    with (
        opening.connection(opening.quiet_settings()) as conn,
        console.progress() as progress,
    ):
        head = checkpoints.head(conn)
        change = ledger.decide_again(conn, codec(), rules, head, partial(progress, "postings"))
        told = notices.decide_again(conn, codec(), rules, head, partial(progress, "stocks"))
    if json:
        console.print_json(report_of(head, change, told))
    else:
        _tell(rules, change, told)


def _rules(chosen: list[str], since: datetime, until: datetime | None) -> "Rules":
    import msgspec

    from runtime.settings import Settings
    from runtime.what_if.rules import DEPENDENCES, BadRule, Rules

    if until is not None and until <= since:
        raise Failure("--until must be after --from", Code.USAGE)
    rules = Rules(since, until)
    for each in chosen:
        name, equals, value = each.partition("=")
        if not equals:
            raise Failure(f"{each!r} is not SETTING=VALUE", Code.USAGE)
        name = name.strip().lower().removeprefix("ludoteca_")
        if name not in DEPENDENCES:
            if name in Settings.model_fields:
                raise Failure(
                    f"no recorded decision that can be decided again depends on {name}; those on"
                    f" which some do: {', '.join(DEPENDENCES)}",
                    Code.USAGE,
                )
            raise unknown("setting", name, DEPENDENCES)
        dependence = DEPENDENCES[name]
        try:
            rules = msgspec.structs.replace(rules, **{dependence.field: dependence.read(value)})
        except BadRule as error:
            raise Failure(f"{name}: {error}", Code.USAGE) from error
    return rules


def _time(option: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time such as 2026-11-01 or 2026-11-01T12:30", param_hint=option
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _tell(rules: "Rules", change: "LedgerChange", told: "list[NoticeChange]") -> None:
    from domain.money import format_amount

    if rules.of_orders:
        shown: Callable[[int, str], str] = format_amount
        console.table(
            ("account", "month", "posted", "would be", "difference"),
            [
                (
                    each.account_id,
                    each.month,
                    shown(each.posted_cents, each.currency),
                    shown(each.would_be_cents, each.currency),
                    shown(each.difference_cents, each.currency),
                )
                for each in change.differences
            ],
            empty="the ledger would be the same",
            right=("posted", "would be", "difference"),
        )
        console.note(
            f"{change.decided:,} postings decided again, of which {change.changed:,} would differ"
        )
    if rules.low_stock is not None:
        console.table(
            ("notice", "product", "sku", "seller", "at", "available"),
            [
                (
                    "would be sent" if each.would_be_sent else "would not be sent",
                    each.product_id,
                    each.sku,
                    each.seller_id,
                    f"{each.at:%Y-%m-%d %H:%M:%S}",
                    each.available,
                )
                for each in told
            ],
            empty="the same notices of low stock would be sent",
        )
