"""Mail as files: where no SMTP server is configured, each message is an .eml that a mail program opens."""

import asyncio
import os
from pathlib import Path

from adapters.notifications.mail_message import to_mail
from commands.ports.notifications import Message


class MailFiles:
    """Fulfils `Carrier` by a folder; the same message twice is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds tokens that reset passwords

    async def send(self, message: Message) -> str:
        """Write the message; returns the file's name."""
        return await asyncio.to_thread(self._write, message)

    def _write(self, message: Message) -> str:
        path = self._folder / f"{message.notice_id}.eml"
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(to_mail(message).as_bytes())
        part.replace(path)  # whole or absent
        return path.name
