"""Against requests that other sites make in a visitor's name.

Every form carries the secret of the visitor's session, which is in a sealed cookie too (a double
submit that is bound to the session); another site can read neither.
"""

import hmac

from starlette.datastructures import FormData, Headers

from web.sessions import Session

FIELD, HEADER = "csrf", "X-CSRF-Token"


def is_genuine(session: Session, headers: Headers, form: FormData) -> bool:
    """Whether a request was made by a page of ours, for this session."""
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return False
    given = headers.get(HEADER) or form.get(FIELD)
    return isinstance(given, str) and hmac.compare_digest(given.encode(), session.csrf.encode())
