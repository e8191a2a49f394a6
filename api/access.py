"""The access token of a request, decoded once per request."""

from starlette.datastructures import Headers
from starlette.types import Scope

from api.tokens import AccessClaims, Tokens
from domain.errors import Unauthorized


def access_of(scope: Scope, tokens: Tokens) -> AccessClaims | None:
    """The claims of the request's bearer token; None without a token. Raises
    Unauthorized("invalid_token")."""
    state = scope.setdefault("state", {})
    if "access" not in state:
        try:
            state["access"] = _read(scope, tokens)
        except Unauthorized as error:
            state["access"] = error
    found: AccessClaims | Unauthorized | None = state["access"]
    if isinstance(found, Unauthorized):
        raise found
    return found


def _read(scope: Scope, tokens: Tokens) -> AccessClaims | None:
    header = Headers(scope=scope).get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("invalid_token", "the only supported scheme is Bearer")
    return tokens.read_access(token.strip())
