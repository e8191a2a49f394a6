"""Whom we trust in TLS: the system's authorities, and those of the shop."""

import os
import re
import ssl
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Trust:
    """The authorities that vouch for servers: the system's, and those of a PEM file, if any."""

    def __init__(self, authorities: str = "") -> None:
        """`authorities` is the file's path."""
        self.authorities = authorities

    @cached_property
    def context(self) -> ssl.SSLContext:
        """A context for connections to servers, to be shared: certificate and name are checked.
        Raises OSError."""
        return self._new_context()

    def context_of(self, options: Mapping[str, str]) -> ssl.SSLContext:
        """A context by the options of a server's URL: `cafile` names the only authorities for this
        server, `certfile` and `keyfile` our own certificate. Raises OSError."""
        if not options.keys() & {"cafile", "certfile"}:
            return self.context
        cafile = options.get("cafile")
        context = ssl.create_default_context(cafile=cafile) if cafile else self._new_context()
        if certificate := options.get("certfile"):
            context.load_cert_chain(certificate, options.get("keyfile"))
        return context

    def completed(self, usual: str) -> str:
        """For libraries that take the path of one file: `usual`, or a file that has its authorities
        and ours. Raises OSError."""
        if not self.authorities:
            return usual
        self._file = NamedTemporaryFile(suffix=".pem")  # noqa: SIM115 - deleted with this object
        self._file.write(Path(usual).read_bytes() + b"\n" + Path(self.authorities).read_bytes())
        self._file.flush()
        return self._file.name

    def check(self) -> None:
        """Raises OSError unless the file can be read and has certificates."""
        if self.authorities:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.authorities)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.authorities:
            context.load_verify_locations(self.authorities)
        return context


USUAL = Trust()
"""The system's authorities."""


def pinned(certificate: str) -> ssl.SSLContext:
    """A context that trusts the certificate of this file, until it expires, and no other, whatever
    names it has: for our own server, which we reach by an address that a certificate rarely names.
    Raises OSError, ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=first_certificate(certificate))
    return context


class Renewed:
    """As `pinned`, for a file that may be replaced at any time."""

    def __init__(self, certificate: str) -> None:
        self._certificate = certificate
        self._seen: object = None
        self._pinned: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context for the file as it is. Raises OSError, ValueError."""
        state = state_of(self._certificate)
        if self._pinned is None or state != self._seen:
            self._pinned = pinned(self._certificate)
            self._seen = state
        return self._pinned


def state_of(*paths: str) -> list[tuple[int, int, int]]:
    """What changes when one of these files is replaced or written."""
    found = []
    for path in paths:
        try:
            info = os.stat(path)
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((info.st_ino, info.st_mtime_ns, info.st_size))
    return found


def first_certificate(path: str) -> str:
    """The first certificate of a PEM file: a server's own, before those of its authorities. Raises
    OSError, ValueError."""
    found = _CERTIFICATE.search(Path(path).read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise ValueError(f"{path} holds no certificate in PEM format")
    return found[0]
