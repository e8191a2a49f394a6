"""A private authority, and the certificates that servers have of it."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.support.servers.faulty_proxy import Proxy

LONG_AGO = datetime.now(UTC) - timedelta(days=3)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client of PostgreSQL sends first that wants TLS (protocol 3.0, "SSLRequest")."""


class Pair(NamedTuple):
    """Two PEM files."""

    certificate: str
    key: str


class Authority:
    """An authority of its own; `file` has its certificate."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self._folder = folder
        self.file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def pair(self, name: str, *, expired: bool = False, file: str = "server") -> Pair:
        """A certificate for a server of this name or address, and its key, in files."""
        issued = self._issue(name, expired=expired)
        pair = Pair(str(self._folder / f"{file}.pem"), str(self._folder / f"{file}.key"))
        Path(pair.certificate).write_bytes(
            b"".join(each.bytes() for each in issued.cert_chain_pems)
        )
        Path(pair.key).write_bytes(issued.private_key_pem.bytes())
        Path(pair.key).chmod(0o600)
        return pair

    def context(self, name: str, *, expired: bool = False) -> ssl.SSLContext:
        """A server's context with such a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._issue(name, expired=expired).configure_cert(context)
        return context

    def _issue(self, name: str, *, expired: bool) -> trustme.LeafCert:
        if not expired:
            return self.ca.issue_cert(name)
        return self.ca.issue_cert(name, not_before=LONG_AGO, not_after=YESTERDAY)


class PostgresTls(Proxy):
    """In front of a PostgreSQL that knows no TLS: the embedded one was built without."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(url)
        self._context = context

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                raise ConnectionRefusedError
            writer.write(b"S")
            await writer.start_tls(self._context)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
            return
        await super()._accept(reader, writer)
