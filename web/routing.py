"""The tables of pages: which handler answers which path, and who may see it."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from starlette.responses import Response

from web.visit import Visit

Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True)
class FormLimits:
    """How large a form may be: its texts in all, the number of its fields and files, and each
    file."""

    text_bytes: int = 128 * 1024
    fields: int = 200
    files: int = 0
    file_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The largest body."""
        return self.text_bytes + self.files * self.file_bytes


@dataclass(frozen=True)
class Page:
    """A path, and what answers it. With `signed_in`, visitors without an account are sent to sign
    in first. With `admits`, accounts of other types see the page `refusal`. With `fresh`, tokens
    that are due are exchanged first, and without new ones there is no page."""

    method: str
    path: str
    handler: Handler
    signed_in: bool
    admits: Collection[str] = ()
    refusal: str = ""
    limits: FormLimits = FormLimits()
    fresh: bool = True


class Router:
    """The pages of one module. With `admits`, only accounts of these types see them; others see the
    template `refusal`."""

    def __init__(self, admits: Collection[str] = (), refusal: str = "") -> None:
        self.pages: list[Page] = []
        self._admits = admits
        self._refusal = refusal

    def get(self, path: str, *, signed_in: bool = False) -> Callable[[Handler], Handler]:
        """Declare a handler of GET."""
        return self._add("GET", path, signed_in)

    def post(
        self,
        path: str,
        *,
        signed_in: bool = False,
        limits: FormLimits | None = None,
        fresh: bool = True,
    ) -> Callable[[Handler], Handler]:
        """Declare a handler of POST."""
        return self._add("POST", path, signed_in, limits, fresh=fresh)

    def _add(
        self,
        method: str,
        path: str,
        signed_in: bool,
        limits: FormLimits | None = None,
        *,
        fresh: bool = True,
    ) -> Callable[[Handler], Handler]:
        def added(handler: Handler) -> Handler:
            page = Page(
                method,
                path,
                handler,
                signed_in or bool(self._admits),
                self._admits,
                self._refusal,
                limits or FormLimits(),
                fresh,
            )
            self.pages.append(page)
            return handler

        return added
