"""How the domain says no. Each refusal has a kind (its class) and a stable machine code."""


class Refused(Exception):
    """A rule said no; nothing was changed.

    `code` is stable and machine-readable, `detail` is for people, `extra` are further fields of the problem document
    (for instance `available` beside `insufficient_stock`).
    """

    def __init__(self, code: str, detail: str = "", **extra: object) -> None:
        super().__init__(code, detail)
        self.code, self.detail, self.extra = code, detail or code.replace("_", " "), extra

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Invalid(Refused):
    """The request can never be right as it is."""


class NotFound(Refused):
    """There is no such thing, or not for this caller."""


class Forbidden(Refused):
    """The caller may not do this."""


class Unauthorized(Refused):
    """The caller did not prove who they are."""


class Conflict(Refused):
    """The state of things does not allow it now."""


class Stale(Refused):
    """The caller decided on an older version."""
