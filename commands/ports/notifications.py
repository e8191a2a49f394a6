"""The transports of messages to people."""

from typing import Protocol
from uuid import UUID

import msgspec


class Message(msgspec.Struct, frozen=True):
    """A notification as a transport takes it. A repeat has the same `notice_id`, and is the same
    message.

    `subject` is one line. A transport looks the person up by `email` or by `user_id`, whichever it
    knows people by.
    """

    notification_id: UUID
    user_id: UUID
    template: str
    email: str
    name: str
    subject: str
    text: str


class NotDelivered(Exception):
    """The transport did not take a message, or it is unknown whether it did: send it again later.

    `code` separates what a person must mend from what passes by itself: `recipient_refused`,
    `message_refused` and `login_refused` are permanent refusals of the address, the message or us;
    `try_later` is a temporary refusal; `unreachable` means no connection, or no answer in time.
    `detail` is for operators, and names nobody.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class MessageTransport(Protocol):
    """Carries messages to people: by mail, by push."""

    async def send(self, message: Message) -> str:
        """Hand a message over; returns the transport's reference. Raises NotDelivered."""
        ...
