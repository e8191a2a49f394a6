"""The README's tour: its commands run as printed, one after the other in one shell, as a reader
would run them."""

import json
import re
import subprocess
from collections.abc import Iterator
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import httpx
import pytest

from tests.support import ROOT
from tests.support.processes.instance import eventually
from tests.support.processes.supervised import LUDOTECA, Run, homes, run_in

PRINTED_PORT = "http://127.0.0.1:8000"
BETWEEN = "=== the next block ==="


def tour() -> list[str]:
    """The README's blocks of commands."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## A tour in five minutes")[1].split("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A new shop with its sample of games, as `make run` starts it."""
    with homes() as folder, run_in(folder, "home") as run:
        run.start()
        yield run


@pytest.fixture(scope="module")
def printed(run: Run) -> list[str]:
    """What each block printed. The port and the path of the program are replaced by this run's;
    otherwise the blocks run as printed."""
    blocks = tour()
    for printed, ours in ((PRINTED_PORT, run.shop.base), (".venv/bin/", f"{LUDOTECA.parent}/")):
        assert any(printed in block for block in blocks)
        blocks = [block.replace(printed, ours) for block in blocks]
    # only SHOP= contains the API's address
    environment = {**run.environment, "LUDOTECA_PORT": "1"}
    admin = log_in(run)
    with subprocess.Popen(
        ["bash", "-e"],
        env=environment,
        cwd=run.home,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
    ) as shell:
        return [read_along(admin, shell, block) for block in blocks]


def read_along(admin: httpx.Client, shell: "subprocess.Popen[str]", block: str) -> str:
    """Run one block; returns its output. The shop has caught up before the next one, as for a
    reader."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{block}\nprintf '\\n{BETWEEN}\\n'\n")
    shell.stdin.flush()
    lines = []
    for line in shell.stdout:
        if line == f"{BETWEEN}\n":
            break
        lines.append(line)
    else:
        pytest.fail(f"the tour ends with {shell.wait()} in\n{block}\nafter\n{''.join(lines)}")
    eventually(lambda: [feed["lag"] for feed in subscriptions(admin)], lambda lags: not any(lags))
    return "".join(lines)


def log_in(run: Run) -> httpx.Client:
    email, password = run.login()
    answer = run.shop.http().post("/api/v1/auth/login", json={"email": email, "password": password})
    return run.shop.http(answer.json()["access_token"])


def subscriptions(admin: httpx.Client) -> list[dict[str, Any]]:
    return list(admin.get("/api/v1/ops/projections").json()["items"])


def answers(text: str) -> list[tuple[int, httpx.Headers, dict[str, Any]]]:
    """Status, headers and body of each answer that `curl -i` printed."""
    found = []
    for answer in text.split("HTTP/1.1 ")[1:]:
        head, _, rest = answer.partition("\n\n")
        status, *lines = head.splitlines()
        headers = httpx.Headers(
            [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        )
        found.append((int(status.split()[0]), headers, json.JSONDecoder().raw_decode(rest)[0]))
    return found


def test_every_block_of_the_tour_is_run(printed: list[str]) -> None:
    assert len(printed) == len(tour()) >= 7


def test_the_search_finds_the_game_in_spite_of_the_typo_and_marks_what_matched(
    printed: list[str],
) -> None:
    shown = printed[1]
    first = re.search(r'"title": "([^"]+)"', shown)
    assert first
    assert first[1].startswith("The Witcher")
    assert "3" in first[1]
    assert re.search(r'"highlight": .*<\w+>', shown)


def test_the_game_is_bought_and_a_repeat_is_answered_from_the_first(printed: list[str]) -> None:
    ((status, headers, order),) = answers(printed[3])
    assert (status, order["status"]) == (201, "COMPLETED")
    assert int(headers["event-position"]) > 0
    assert printed[3].strip().splitlines()[-1].lower() == "idempotent-replayed: true"


def test_the_bought_game_is_in_the_library(printed: list[str]) -> None:
    ((status, headers, body),) = answers(printed[4])
    assert status == 200
    assert int(headers["event-position"]) > 0
    assert [item["title"] for item in body["items"]] == re.findall(
        r'"title": "([^"]+)"', printed[1]
    )[:1]


def test_one_card_is_declined_and_the_other_leads_to_a_page_on_which_to_decide(
    printed: list[str],
) -> None:
    (declined, _, problem), (placed, _, order) = answers(printed[5])
    assert (declined, problem["code"]) == (402, "payment_failed")
    assert (placed, order["status"]) == (201, "PENDING_PAYMENT")
    page = httpx.get(order["redirect_url"], timeout=30)
    assert page.status_code == 200
    assert all(f'value="{decision}"' in page.text for decision in ("approve", "decline"))


def test_a_deposit_pays_for_a_game_and_the_statement_tells_of_both(printed: list[str]) -> None:
    deposit, order, statement = printed[6].strip().split("\n", 2)
    assert json.loads(deposit)["status"] == "COMPLETED"
    assert json.loads(order)["status"] == "COMPLETED"
    movements = json.loads(statement)["items"]
    assert {each["direction"] for each in movements} == {"credit", "debit"}


def test_a_cart_holds_stock_and_its_order_follows_the_sellers_shipment(printed: list[str]) -> None:
    stock, cart, refused, order = map(json.loads, filter(None, printed[7].splitlines()))
    assert stock["available"] == 5
    assert [item["quantity"] for item in cart["items"]] == [3]
    assert (refused["code"], refused["available"]) == ("insufficient_stock", 2)
    assert (order["status"], order["amount_cents"]) == ("CONFIRMED", 13500)
    processing, shipped, orders = printed[8].strip().split("\n", 2)
    assert [json.loads(each)["status"] for each in (processing, shipped)] == [
        "PROCESSING",
        "SHIPPED",
    ]
    assert order["order_id"] in orders


def test_the_operators_side_shows_equal_models_an_intact_log_and_payments(
    printed: list[str],
) -> None:
    shown = printed[9]
    assert re.search(r"^projection +", shown, re.MULTILINE)
    assert not re.search(r"\bNO\b", shown)
    assert re.search(r"^intact: positions 1 to \d+", shown, re.MULTILINE)
    tailed = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert len(tailed) == 5
    assert all(event["name"].startswith("payment.") for event in tailed)
    assert re.search(r"^orders +\S+ +\d+ +\d+", shown, re.MULTILINE)


def test_mails_and_text_logs_are_where_the_readme_says(run: Run, printed: list[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "`~/.ludoteca/mail`" in text
    assert "`~/.ludoteca/logs`" in text
    eventually(
        lambda: subjects(run.home / "mail"),
        lambda found: any("Your purchase" in subject for subject in found),
    )
    for name in ("payment-worker.txt", "payment-webhook.txt"):
        assert eventually(partial((run.home / "logs" / name).read_text, encoding="utf-8"))


def subjects(folder: Path) -> list[str]:
    return [
        str(message_from_bytes(path.read_bytes(), policy=policy.default)["Subject"])
        for path in folder.glob("*.eml")
    ]


def test_the_readmes_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / target).exists(), target
