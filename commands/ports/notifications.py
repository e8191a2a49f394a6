"""What carries messages to people."""

from typing import Protocol
from uuid import UUID

import msgspec


class Message(msgspec.Struct, frozen=True):
    """A notice as a carrier takes it. A repeat has the same `notice_id`, and is the same message.

    `subject` is one line. A carrier looks the person up by `email` or by `user_id`, whichever it
    knows people by.
    """

    notice_id: UUID
    user_id: UUID
    template: str
    email: str
    name: str
    subject: str
    text: str


class NotDelivered(Exception):
    """The carrier did not take a message, or it is unknown whether it did: send it again later.

    `code` tells what a person must mend from what passes by itself: `recipient_refused`,
    `message_refused`, `login_refused`: a permanent no, to the address, to the message or to us;
    `try_later`: a temporary no; `unreachable`: no connection, or no answer in time. `detail` is for
    operators, and names nobody.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Carrier(Protocol):
    """Carries notices to people: by mail, by push."""

    async def send(self, message: Message) -> str:
        """Hand a message over; returns the carrier's reference. Raises NotDelivered."""
        ...
