"""Views of accounts and tokens."""

from uuid import UUID

from pydantic import Field

from api.fields import Answer, Time
from api.services import Services
from api.tokens import ACCESS_LIFETIME
from commands.accounts.logins import Login
from domain.identity import User

NOT_STORED = {"Cache-Control": "no-store"}


class Account(Answer):
    id: UUID = Field(validation_alias="user_id")
    email: str | None
    name: str | None
    account_type: str
    region: str
    status: str
    email_verified: bool


class DatedAccount(Account):
    """An account, with its dates."""

    created_at: Time
    updated_at: Time


class TokenPair(Answer):
    """An access token, to be sent as Bearer, which is valid for `expires_in` seconds, and a refresh
    token for the next pair."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - a scheme, not a secret
    expires_in: int = int(ACCESS_LIFETIME.total_seconds())


def tokens_for(services: Services, login: Login) -> TokenPair:
    """The tokens of a session's current generation."""
    user, tokens = login.user, services.tokens
    return TokenPair(
        access_token=tokens.mint_access(
            user.user_id, user.account_type, login.session_id, login.epoch
        ),
        refresh_token=tokens.mint_refresh(login.session_id, login.generation, login.expires_at),
    )


def account_view(user: User) -> Account:
    return Account.model_validate(user)
