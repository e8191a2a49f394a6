"""Refusals of the domain. Each has a kind (its class) and a stable machine-readable code."""


class Refused(Exception):
    """A rule refused the request; nothing was changed.

    `code` is stable and machine-readable, `detail` is for people, `extra` holds further fields of
    the problem document (for instance `available` with `insufficient_stock`).
    """

    def __init__(self, code: str, detail: str = "", **extra: object) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail or code.replace("_", " ")
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Invalid(Refused):
    """The request can never succeed as it is."""


class NotFound(Refused):
    """The thing does not exist, or not for this caller."""


class Forbidden(Refused):
    """The caller may not do this."""


class Unauthorized(Refused):
    """The caller did not prove who they are."""


class Conflict(Refused):
    """The current state does not allow the request."""


class Stale(Refused):
    """The caller decided on an outdated version."""
