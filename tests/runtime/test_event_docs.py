"""The generated documents are up to date."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from domain.events import EVENTS
from runtime.cli import app
from runtime.events import docs as event_docs
from runtime.settings import Settings

DOCS = event_docs.DOCS
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = (*(DOCS.parent / name for name in ROOT_PAGES), *sorted(DOCS.rglob("*.md")))


@pytest.mark.parametrize(
    ("path", "text"), event_docs.files().items(), ids=lambda value: getattr(value, "name", "")
)
def test_what_is_written_of_events_is_what_the_code_says(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run `python -m runtime.events.docs`"


def test_every_event_is_in_both_documents() -> None:
    page = (DOCS / "events.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w.]+\.v\d+)` \| (?!`)", page, re.MULTILINE)) == set(EVENTS)
    channels = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))["channels"]
    assert {channel["address"] for channel in channels.values()} == set(EVENTS)


def test_every_topic_of_events_has_a_heading() -> None:
    assert {name.split(".")[0] for name in EVENTS} <= event_docs.TITLES.keys()


def test_every_reference_in_the_event_schemas_leads_somewhere() -> None:
    document = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        found = document
        for part in reference.split("/"):
            found = found[part]


def test_what_is_written_of_settings_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["settings", "--markdown"]).stdout
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert page.strip() == printed.strip(), "run `ludoteca settings --markdown > docs/settings.md`"


def test_every_variable_that_the_documents_name_is_a_setting() -> None:
    known = {f"LUDOTECA_{name.upper()}" for name in Settings.model_fields}
    named = {
        variable
        for path in PAGES
        for variable in re.findall(r"LUDOTECA_[A-Z0-9_]+[A-Z]", path.read_text(encoding="utf-8"))
    }
    assert named <= known | {"LUDOTECA_REQUIRE_SERVICES", "LUDOTECA_NEW_PASSWORD"}


def test_every_command_that_the_documents_name_is_one() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        groups = "projections|quarantine|dlq|receipts|events|audit|admin|load"
        for group, command in re.findall(rf"ludoteca ({groups}) ([\w-]+)", text):
            found = CliRunner().invoke(app, [group, command, "--help"])
            assert found.exit_code == 0, f"{path.name}: ludoteca {group} {command}"


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for path in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if re.match(r"\w+:", link):
                continue
            target, _, anchor = link.partition("#")
            page = (path.parent / target).resolve() if target else path
            assert page.exists(), f"{path.name}: {link}"
            assert not anchor or anchor in _anchors(page), f"{path.name}: {link}"


def test_the_readme_lists_every_page() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    pages = {*DOCS.glob("*.md"), *DOCS.glob("*/README.md"), DOCS.parent / "CONTRIBUTING.md"}
    missing = [path for path in pages if f"]({path.relative_to(DOCS.parent)})" not in readme]
    assert missing == []


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_package_that_the_glossary_names_is_there() -> None:
    rows = re.findall(
        r"^\| .+ \| ([^|]+) \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    named = {package for row in rows for package in re.findall(r"`([\w/]+)`", row)}
    assert named
    assert {package for package in named if not (DOCS.parent / package).is_dir()} == set()


def test_the_index_of_decisions_has_each_of_them() -> None:
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        number, title = re.findall(
            r"\A# (\d+)\. (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE
        )[0]
        assert path.name.startswith(f"{int(number):04}-")
        assert f"| [{number}]({path.name}) | {title} |" in index
