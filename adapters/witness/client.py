"""Posts checkpoints to a witness, as https://c2sp.org/tlog-witness has it.

The body is the size that the witness has, a proof that its log is the beginning of this one, an
empty line, and the checkpoint:

    old 80000
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=

    ludoteca.log/6b1f…
    81250
    …

A witness answers 200 with its own signature lines, or 409 with the size that it has. Any other
server that keeps what it is sent may answer 2xx with anything.
"""

import ssl
from collections.abc import Sequence
from typing import Literal

import aiohttp

from eventstore.proofs.notes import BadNote, signature_lines
from eventstore.proofs.witness import OtherSize, WitnessAway, WitnessRefused

_ANSWER_BYTES = 16 * 1024
_SIGNATURES = 16


class HttpWitness:
    """Implements `Witness` with the server at a URL."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        tls: ssl.SSLContext | Literal[True] = True,
    ) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._tls = tls

    async def add_checkpoint(self, old: int, path: Sequence[str], note: str) -> str:
        """As `Witness.add_checkpoint`."""
        body = "".join(f"{line}\n" for line in (f"old {old}", *path, "")) + note
        connector = aiohttp.TCPConnector(ssl=self._tls)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
                session.post(
                    self._url,
                    data=body.encode(),
                    headers={"Content-Type": "text/plain; charset=utf-8"},
                    allow_redirects=False,
                ) as response,
            ):
                status = response.status
                answer = (await response.content.read(_ANSWER_BYTES)).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WitnessAway(type(error).__name__) from error
        if 200 <= status < 300:
            return _signatures(answer)
        size = answer.strip()
        if status == 409 and size.isdecimal() and size.isascii() and len(size) < 19:
            raise OtherSize(int(size))
        if status in {400, 403, 404, 409, 422}:
            raise WitnessRefused(f"it answers {status}: {' '.join(answer.split())[:200]}")
        raise WitnessAway(f"it answers {status}")


def _signatures(answer: str) -> str:
    """The answer if it is signature lines; they are not verified, as the witness's key is not
    known: who relies on them knows it."""
    try:
        found = signature_lines(answer)
    except BadNote:
        return ""
    return answer if answer.endswith("\n") and len(found) <= _SIGNATURES else ""
