"""Sessions of people who logged in."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class Session(msgspec.Struct, frozen=True):
    """A login: each refresh spends one generation of its token and makes the next. `epoch` is its
    account's at the login; whether the account keeps it, the account knows
    (`domain.identity.User.keeps`)."""

    session_id: UUID
    user_id: UUID
    generation: int
    expires_at: datetime
    epoch: int = 0
    revoked: bool = False


class Sessions(Protocol):
    """Keeps the sessions: state of the program's door, not facts of the shop, so not in the log."""

    async def open(self, session: Session) -> None: ...

    async def find(self, session_id: UUID) -> Session | None: ...

    async def advance(self, session_id: UUID, generation: int) -> bool:
        """Spend this generation; False when it was spent already, or the session is revoked."""
        ...

    async def revoke(self, session_id: UUID) -> None: ...

    async def of_user(self, user_id: UUID) -> list[Session]:
        """Those that have not expired, ended ones too."""
        ...

    async def purge_expired(self, now: datetime) -> None:
        """Drop those that have expired."""
        ...
