"""The certificate of our own server: checked at the start, and reloaded when it is renewed."""

import asyncio
import logging
import ssl
import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography import x509

from kit.cancellation import stop_if_cancelled
from kit.tls import first_certificate, state_of
from kit.wording import reason
from runtime.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the files are looked at."""

SOON = timedelta(days=7)
"""An expiry within this time is logged, once a day."""


class BadCertificate(Exception):
    """The server's certificate cannot be used. The message says why, and which setting it is."""


class ServerCertificate:
    """The certificate and key in two PEM files, which may be replaced at any time."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises BadCertificate."""
        self._files = (certificate, key)
        self._seen = state_of(*self._files)
        self._current = load(certificate, key)
        self._until = _parsed(certificate).not_valid_after_utc
        self._reminded: date | None = None
        self.context = load(certificate, key)
        """The context for a server: each handshake uses the newest certificate."""
        self.context.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    async def follow(self) -> None:
        """Take up renewed files, until cancelled. While they cannot be used, which is logged,
        the certificate before them serves on."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)
            stop_if_cancelled()

    def look(self) -> None:
        """Take the files up if they have changed. Logs once a day that they expire soon."""
        state = state_of(*self._files)
        if state != self._seen:
            self._seen = state
            self._take_up()
        now = datetime.now(UTC)
        if self._until - now < SOON and self._reminded != now.date():
            self._reminded = now.date()
            logger.warning("the API's certificate is valid until %s: renew it", _shown(self._until))

    def _take_up(self) -> None:
        try:
            self._current = load(*self._files)
            self._until = _parsed(self._files[0]).not_valid_after_utc
        except BadCertificate as error:
            logger.error("the certificate before serves on: %s", error)
        else:
            logger.info("took up the certificate that is valid until %s", _shown(self._until))


def check_certificate(settings: Settings) -> None:
    """Raises BadCertificate unless the API's certificate, if it has one, can be used."""
    if settings.tls_cert:
        load(settings.tls_cert, settings.tls_key)


def load(certificate: str, key: str) -> ssl.SSLContext:
    """A server's context. Raises BadCertificate."""
    _check_private(key)
    _check_dates(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # never ask for a password at the terminal
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise BadCertificate(
            "LUDOTECA_TLS_KEY: it is the unencrypted private key, in PEM format, of the certificate"
            f" in LUDOTECA_TLS_CERT ({reason(error)})"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_private(key: str) -> None:
    try:
        mode = Path(key).stat().st_mode
    except OSError as error:
        raise BadCertificate(f"LUDOTECA_TLS_KEY: {key}: {error.strerror}") from error
    if mode & stat.S_IROTH:  # a group may read it: Kubernetes gives files to one
        raise BadCertificate(f"LUDOTECA_TLS_KEY: everybody can read {key}: chmod o-rwx it")


def _check_dates(certificate: str) -> None:
    found = _parsed(certificate)
    now, until = datetime.now(UTC), found.not_valid_after_utc
    if until < now:
        raise BadCertificate(f"LUDOTECA_TLS_CERT: the certificate expired on {_shown(until)}")
    if found.not_valid_before_utc > now:
        since = _shown(found.not_valid_before_utc)
        raise BadCertificate(f"LUDOTECA_TLS_CERT: the certificate is not valid before {since}")


def _shown(moment: datetime) -> str:
    return f"{moment:%F %T} UTC"


def _parsed(certificate: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(first_certificate(certificate).encode())
    except OSError as error:
        raise BadCertificate(f"LUDOTECA_TLS_CERT: {certificate}: {error.strerror}") from error
    except ValueError as error:
        raise BadCertificate(f"LUDOTECA_TLS_CERT: {error}") from error
