"""Login sessions."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class Session(msgspec.Struct, frozen=True):
    """A login session. Each refresh spends one generation of its token and makes the next. `epoch`
    is the account's session epoch at the login; `domain.identity.User.keeps` tells whether it is
    still valid. `spent_under` is the key of the request that spent the last generation, if it had
    one."""

    session_id: UUID
    user_id: UUID
    generation: int
    expires_at: datetime
    epoch: int = 0
    revoked: bool = False
    spent_under: bytes | None = None


class Sessions(Protocol):
    """Stores the sessions. They are not in the log, as they are no facts about the shop."""

    async def open(self, session: Session) -> None: ...

    async def find(self, session_id: UUID) -> Session | None: ...

    async def advance(self, session_id: UUID, generation: int, under: bytes | None) -> bool:
        """Spend this generation, by a request with the key `under`. False when it was spent
        already, or the session is revoked."""
        ...

    async def revoke(self, session_id: UUID) -> None: ...

    async def of_user(self, user_id: UUID) -> list[Session]:
        """The user's sessions that have not expired, including ended ones."""
        ...

    async def purge_expired(self, now: datetime) -> None:
        """Delete expired sessions."""
        ...
