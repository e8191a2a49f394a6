"""Forms: what was typed becomes the body of a call of the API, and its refusal becomes messages
beside the fields."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData

from web.api_client import Problem
from web.words import field_sentence, sentence, way_on

SECRET = frozenset({"csrf", "once", "password", "current_password", "token"})
"""Fields that are never shown again."""

_FIELD_OF_CODE = {
    "email_taken": "email",
    "invalid_email": "email",
    "weak_password": "password",
    "current_password_wrong": "current_password",
    "invalid_region": "region",
    "invalid_currency": "currency",
    "invalid_amount": "amount",
    "insufficient_funds": "amount",
    "wallet_not_found": "to_wallet_id",
    "insufficient_stock": "quantity",
    "quantity_limit": "quantity",
    "sku_taken": "sku",
    "webhook_url_refused": "url",
    "unknown_event_pattern": "events",
    "invalid_tracking": "tracking_number",
    "stock_below_commitments": "quantity",
    "version_conflict": "quantity",
}
"""The field that a refusal is about, where it names none."""


def number(text: str) -> int | None:
    """A number from a URL or a header, below 10^18; None for anything else."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


class Form:
    """A form as it was sent, or is to be filled. A field of a field is named with a dot, as in
    `shipping_address.city`. `errors` are messages by field; `problem` is one about the whole, and
    `way_on` a page that helps, with its name."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        self.errors: dict[str, str] = {}
        self.problem = ""
        self.way_on: tuple[str, str] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether there is something wrong with it."""
        return bool(self.errors or self.problem)

    def __contains__(self, name: str) -> bool:
        """Whether it has such a field."""
        return name in self._values

    def text(self, name: str) -> str:
        """What was typed in a field, without the space around it."""
        return self._values.get(name, "").strip()

    def within(self, prefix: str) -> dict[str, str]:
        """The fields whose names begin with a prefix, by the rest of their names."""
        return {
            name.removeprefix(prefix): self.text(name)
            for name in self._values
            if name.startswith(prefix)
        }

    def secret(self, name: str) -> str:
        """What was typed in a field, exactly."""
        return self._values.get(name, "")

    def shown(self, name: str, default: object = "") -> str:
        """What a field shows: what was typed, else the default."""
        if name in SECRET:
            return ""
        return self._values.get(name, "" if default is None else str(default))

    def body(self, *names: str) -> dict[str, Any]:
        """The fields that were filled in, as the API takes them."""
        body: dict[str, Any] = {}
        for name in names:
            value = self.secret(name) if name in SECRET else self.text(name)
            if value:
                *path, last = name.split(".")
                into = body
                for part in path:
                    into = into.setdefault(part, {})
                into[last] = value
        return body

    def refuse(self, problem: Problem, names: Mapping[str, str] | None = None) -> None:
        """Show a refusal of the API. `names` are this form's names of the API's fields, where they
        differ. Raises the problem if it is not about what was typed."""
        if problem.status == 401 and problem.code != "current_password_wrong":
            raise problem
        if problem.status >= 429:
            raise problem
        elsewhere = []
        for error in problem.errors:
            name = self._own_name((names or {}).get(error.field, error.field))
            if name in self._values:
                self.errors.setdefault(name, field_sentence(error.code, error.message))
            else:
                elsewhere.append(f"{error.field}: {field_sentence(error.code, error.message)}")
        field = _FIELD_OF_CODE.get(problem.code) or problem.code.removeprefix("invalid_")
        if elsewhere:
            self.problem = " ".join(elsewhere)
        elif not problem.errors and field in self._values:
            self.errors[field] = sentence(problem)
        elif not problem.errors:
            self.problem = sentence(problem)
            self.way_on = way_on(problem)

    def _own_name(self, name: str) -> str:
        """The field that has what the API calls `name`: several words may be typed in one field,
        so that `genres.2` is in `genres`."""
        while name not in self._values and "." in name:
            name = name.rpartition(".")[0]
        return name


def form_of(data: FormData) -> Form:
    """The texts of a form; files are not among them."""
    return Form({name: value for name, value in data.items() if isinstance(value, str)})
