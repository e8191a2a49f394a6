"""Windows of a browser, each with cookies of its own, in which whatever a page does wrong is
noted."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from tests.support.processes.instance import PASSWORD, Instance

SECONDS = 30.0
"""How long a test waits for what a page is expected to show."""

expect.set_options(timeout=SECONDS * 1000)


@dataclass
class Windows:
    """Windows on one shop. `faults`: what its pages said on the console, and what they fetched from
    elsewhere; `refusals` are answers that the test expects, such as 422."""

    chromium: Browser
    shop: Instance
    faults: list[str] = field(default_factory=list)
    refusals: set[int] = field(default_factory=set)
    _contexts: list[BrowserContext] = field(default_factory=list)

    async def open(self, path: str | None = "/", **options: Any) -> Page:
        """A window of somebody who was not here before, which shows this page."""
        context = await self.chromium.new_context(base_url=self.shop.base, **options)
        context.set_default_timeout(SECONDS * 1000)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.faults.append(str(error.error)))
        context.on("request", self._see)
        self._contexts.append(context)
        page = await context.new_page()
        if path is not None:
            await page.goto(path)
        return page

    async def of_new_account(self, **fields: Any) -> Page:
        """A window of somebody who has just registered; `account_type` among the fields, too."""
        page = await self.open("/register", **fields.pop("options", {}))
        email = fields.pop("email", f"{uuid4().hex}@example.com")
        await page.get_by_label("Name", exact=True).fill(fields.pop("name", "Ann"))
        await page.get_by_label("E-mail").fill(email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_label("Country").select_option("US")
        await page.get_by_label("You want to").select_option(fields.pop("account_type", "BUYER"))
        await page.get_by_role("button", name="Register").click()
        await expect(page.get_by_role("status")).to_contain_text("Welcome")
        return page

    async def signed_in(self, email: str, **options: Any) -> Page:
        """A window of somebody who has an account."""
        page = await self.open("/sign-in", **options)
        await sign_in(page, email)
        return page

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        is_refusal = any(f"status of {status} " in message.text for status in self.refusals)
        is_ours = not message.location["url"] or message.location["url"].startswith(self.shop.base)
        if is_ours and message.type in {"error", "warning"} and not is_refusal:
            self.faults.append(f"{message.type}: {message.text} ({message.location})")

    def _see(self, request: Request) -> None:
        """A page may lead elsewhere, to a bank; it may not fetch anything there."""
        is_ours = request.url.startswith((f"{self.shop.base}/", "data:"))
        if is_ours or request.is_navigation_request():
            return
        if urlsplit(request.frame.url).netloc != urlsplit(request.url).netloc:
            self.faults.append(f"{request.frame.url} fetches {request.url}")


async def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    """Fill in the form of /sign-in."""
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("main").get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)
