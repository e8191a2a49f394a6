"""The environment variables that are settings, with their values, and those that only look like
settings."""

import difflib
import os
import re

from pydantic import SecretStr

from runtime.settings import Settings

_READ_ELSEWHERE = re.compile(r"LUDOTECA_(NEW_PASSWORD|REQUIRE_SERVICES|TEST_.*)")
"""Read by `admin create`, and by the tests."""

_OF_A_SERVICE = re.compile(
    r"LUDOTECA(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets for every service, also for one that is named ludoteca."""

_OURS = re.compile(r"LUDOTE[CK]A_?(?=\w)", re.IGNORECASE)
_STARS = "********"


def rows(settings: Settings) -> list[tuple[str, str, str, str]]:
    """(variable, value with secrets masked, default, meaning) of every setting, in order."""
    found = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        found.append(
            (_variable(name), _shown(value), _shown(field.default), field.description or "")
        )
    return found


def unknown_settings() -> dict[str, str]:
    """Each variable that looks like a setting but is not one, with a message that names the
    probable one. This is no error: an older release finds a newer one's settings in its
    environment."""
    found = {}
    known = [name.upper() for name in Settings.model_fields]
    for variable in sorted(os.environ):
        prefix = _OURS.match(variable)
        if (
            prefix is None
            or _READ_ELSEWHERE.fullmatch(variable)
            or _OF_A_SERVICE.fullmatch(variable)
        ):
            continue
        name = variable[prefix.end() :].upper()
        if prefix[0].upper() != "LUDOTECA_" or name not in known:
            meant = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean LUDOTECA_{meant[0]}?)" if meant else ""
            found[variable] = f"{variable} is no setting{hint}"
    return found


def _variable(name: str) -> str:
    return f"LUDOTECA_{name.upper()}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(each) for each in value)
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _masked(secret) if "://" in secret else _STARS if secret else ""
    return _masked(str(value)) if "://" in str(value) else str(value)


def _masked(url: str) -> str:
    """The value without passwords, wherever they are in it; when in doubt, masked. It is not
    parsed, as parsers do not agree where a password with URL characters ends."""
    without = re.sub(r"(://[^:@/]*:).*@", rf"\1{_STARS}@", url)
    return re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", rf"\1{_STARS}", without, flags=re.IGNORECASE)
