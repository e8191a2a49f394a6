"""The tables of pages: which handler answers which path, and who may see it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from web.visit import Visit

Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True)
class Page:
    """What answers a path. `signed_in`: others are sent to sign in first."""

    method: str
    path: str
    handler: Handler
    signed_in: bool


class Router:
    """The pages of one module."""

    def __init__(self) -> None:
        self.pages: list[Page] = []

    def get(self, path: str, *, signed_in: bool = False) -> Callable[[Handler], Handler]:
        """A page to look at."""
        return self._add("GET", path, signed_in)

    def post(self, path: str, *, signed_in: bool = False) -> Callable[[Handler], Handler]:
        """What a form does."""
        return self._add("POST", path, signed_in)

    def _add(self, method: str, path: str, signed_in: bool) -> Callable[[Handler], Handler]:
        def added(handler: Handler) -> Handler:
            self.pages.append(Page(method, path, handler, signed_in))
            return handler

        return added
