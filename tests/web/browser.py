"""A browser without scripts: it keeps cookies, follows redirects, fills in forms and presses
buttons."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx

HTML = {"accept": "text/html,application/xhtml+xml"}
_VOID = frozenset({"input", "meta", "link", "br", "img", "hr", "rect", "circle", "path"})


@dataclass
class Form:
    """A form as it is shown: where it goes, its fields with what is in them, its button."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    text: str = ""


class Page(HTMLParser):
    """What a page shows."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.status = answer.status_code
        self.path = answer.url.path
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.title = ""
        self.texts: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._select: str | None = None
        self._area: str | None = None
        self.feed(answer.text)

    @property
    def text(self) -> str:
        """All that can be read."""
        return " ".join(" ".join(self.texts).split())

    def form(self, action: str) -> Form:
        """The form that goes there."""
        for each in self.forms:
            if each.action == action:
                return each
        raise AssertionError(f"no form goes to {action}: {self.text}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        if tag not in _VOID:
            self._open.append((tag, given))
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
        elif tag == "select":
            self._select = given["name"]
        elif tag == "textarea":
            self._area = given["name"]
            self.forms[-1].fields[self._area] = ""
        elif self._in("form"):
            self._handle_field(tag, given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def _handle_field(self, tag: str, given: dict[str, str]) -> None:
        fields = self.forms[-1].fields
        if tag == "input" and "name" in given:
            is_choice = given.get("type") in {"radio", "checkbox"}
            if not is_choice or "checked" in given:
                fields[given["name"]] = given.get("value", "")
        elif tag == "option" and self._select is not None:
            value = given.get("value", "")
            if "selected" in given or self._select not in fields:
                fields[self._select] = value

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag == "select":
            self._select = None
        elif tag == "textarea" and self._area is not None:
            fields = self.forms[-1].fields
            fields[self._area] = fields[self._area].removeprefix("\n")
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self.forms[-1].fields[self._area] += data
        elif self._in("head") and self._in("title"):
            self.title += data
        elif data.strip() and not self._in("script", "style"):
            self.texts.append(data)
            if self._in("form"):
                self.forms[-1].text += data
            for tag, given in self._open:
                if tag == "a" and "href" in given:
                    self.links[data.strip()] = given["href"]

    def _in(self, *tags: str) -> bool:
        return any(tag in tags for tag, _ in self._open)


class Browser:
    """One window."""

    def __init__(self, app: Any) -> None:
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://shop",
            headers=HTML,
            follow_redirects=True,
        )

    async def get(self, path: str, **headers: str) -> Page:
        """Open a page."""
        return Page(await self.client.get(path, headers=headers))

    async def until(self, path: str, wanted: Callable[[Page], object]) -> Page:
        """The page once it is as wanted: what others changed is seen a little later."""
        async with asyncio.timeout(60):
            while not wanted(page := await self.get(path)):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)
        return page

    async def send(self, form: Form, **typed: str) -> Page:
        """Send a form, with what was typed into its fields."""
        return Page(await self.client.post(form.action, data={**form.fields, **typed}))

    async def upload(self, form: Form, *files: tuple[str, bytes], **headers: str) -> Page:
        """Send a form with files: their names and contents."""
        parts = [("file", file) for file in files]
        answer = await self.client.post(
            form.action, data=form.fields, files=parts or {"file": ("", b"")}, headers=headers
        )
        return Page(answer)
