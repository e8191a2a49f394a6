"""Callers of commands: who asks, on whose behalf the log records it, and what they may do."""

from uuid import UUID

import msgspec

from domain.errors import Forbidden
from eventstore.log import Metadata


def not_yours(what: str) -> Forbidden:
    """The refusal of access to what belongs to somebody else: an `order`, a `wallet`."""
    return Forbidden("not_yours", f"you may not access another person's {what}")


class Caller(msgspec.Struct, frozen=True):
    """Who asks for something. `session_id` is the login that proves it; the correlation and the
    causation are recorded with every event that follows.

    `audits` is an AUDITOR who asks for a past moment: they may read what is anybody's, but change
    nothing, and see nothing personal.
    """

    actor: str
    user_id: UUID | None = None
    account_type: str = ""
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None
    session_id: UUID | None = None
    audits: bool = False

    @property
    def is_admin(self) -> bool:
        """Whether the caller may act for everybody."""
        return self.account_type == "ADMIN"

    @property
    def sees_all(self) -> bool:
        """Whether the caller may read what is anybody's."""
        return self.is_admin or self.audits

    def may_act_for(self, user_id: UUID) -> bool:
        """Whether the caller is that person, or an ADMIN."""
        return self.is_admin or self.user_id == user_id

    def must_act_for(self, user_id: UUID, what: str) -> None:
        """Raises Forbidden("not_yours") unless the caller may act for the owner of `what`; if the
        caller audits, who only reads, for anybody."""
        if not (self.audits or self.may_act_for(user_id)):
            raise not_yours(what)

    def must_be_admin(self) -> None:
        """Raises Forbidden("role_required") for anybody else than an ADMIN."""
        if not self.is_admin:
            raise Forbidden("role_required", "this requires the role ADMIN")

    def person(self) -> UUID:
        """The caller's account. Raises Forbidden("no_account") for a program."""
        if self.user_id is None:
            raise Forbidden("no_account", "only a person with an account may do this")
        return self.user_id

    def metadata(self) -> Metadata:
        """What the log records about the caller."""
        return Metadata(self.actor, self.correlation_id, self.causation_id, self.traceparent)


SYSTEM = Caller("system")

IMPORTER = Caller("import", account_type="ADMIN")
"""Loads what happened elsewhere. The orders of this actor were reported to a fiscal operator
there, and are not reported again."""
