"""Mail as files: without an SMTP server, each message becomes an .eml file that a mail program
opens."""

from pathlib import Path

from adapters.notifications.folder import MessageFolder
from adapters.notifications.mail_message import to_mail
from commands.ports.notifications import Message


class MailFiles:
    """Implements `MessageTransport` with a folder. A repeated message is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = MessageFolder(folder)  # private: mails hold tokens that reset passwords

    async def send(self, message: Message) -> str:
        """Write the message. Returns the file's name."""
        return self._folder.write(f"{message.notification_id}.eml", to_mail(message).as_bytes())
