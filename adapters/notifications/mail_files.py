"""Mail as files: without an SMTP server, each message becomes an .eml file that a mail program
opens."""

import asyncio
import os
from pathlib import Path

from adapters.notifications.mail_message import to_mail
from commands.ports.notifications import Message


class MailFiles:
    """Implements `MessageTransport` with a folder. A repeated message is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # it holds tokens that reset passwords
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def send(self, message: Message) -> str:
        """Write the message. Returns the file's name."""
        return await asyncio.to_thread(self._write, message)

    def _write(self, message: Message) -> str:
        path = self._folder / f"{message.notification_id}.eml"
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(to_mail(message).as_bytes())
        part.replace(path)  # whole or absent
        return path.name
