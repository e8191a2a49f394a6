"""`ludoteca audit self` says what it could not look at. tests/flow/test_self_audit.py shows what it
finds."""

from runtime.output.console import Code
from tests.support.shops.commands import Ludoteca, Shop


def test_what_could_not_be_looked_at_is_no_success(ludoteca: Ludoteca, shop: Shop) -> None:
    """Before a projector has run there are no read models; the log alone can be looked at."""
    shop.list_game("Go")
    result = ludoteca("audit", "self")
    assert result.exit_code == Code.DIFFERS
    assert "trial_balance could not be looked at: ledger_accounts cannot be read yet" in (
        result.stderr
    )
    told = ludoteca.json("audit", "self", "--only", "log_is_chained")
    assert told["holds"] is True
    assert [each["checked"] for each in told["invariants"]] == [1]


def test_an_unknown_invariant_is_wrong_usage(ludoteca: Ludoteca, shop: Shop) -> None:
    result = ludoteca("audit", "self", "--only", "trial_ballance")
    assert result.exit_code == Code.USAGE
    assert "did you mean trial_balance?" in result.stderr
