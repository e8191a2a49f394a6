"""Mail as files: where no SMTP server is configured, each message is an .eml that a mail program opens."""

import asyncio
import os
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path

from commands.ports import Mail

SENDER = "Ludoteca <no-reply@ludoteca.invalid>"


def to_message(mail: Mail) -> EmailMessage:
    """The message as RFC 5322 has it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, mail.to, mail.subject.replace("\n", " ")
    message["Message-ID"] = f"<{mail.message_id}@ludoteca.invalid>"
    message["Date"] = formatdate(usegmt=True)
    message.set_content(mail.text, cte="8bit")  # so that a token in it stays in one piece
    return message


class MailFiles:
    """Fulfils `commands.ports.Mailer` by a folder; the same message twice is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds tokens that reset passwords

    async def send(self, mail: Mail) -> str:
        """Write the message; returns the file's name."""
        return await asyncio.to_thread(self._write, mail)

    def _write(self, mail: Mail) -> str:
        path = self._folder / f"{mail.message_id}.eml"
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(to_message(mail).as_bytes())
        part.replace(path)  # whole or absent
        return path.name
