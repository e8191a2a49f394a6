"""Master keys, which wrap (encrypt) the keys of persons and the program's secrets.

They are not in the database. What it stores of a wrapped key is

    "wrapped:1:" ‖ id of the master key (8 bytes) ‖ nonce (12) ‖ AES-256-GCM of the key

whose associated data says what it is the key of, so that one copied to another row does not open.
The id is the beginning of a hash of the master key. The table private.master_keys says which master
key wraps what is new (`eventstore.rewrapping`).
"""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from os import urandom
from typing import Protocol
from uuid import UUID

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

logger = logging.getLogger(__name__)

PREFIX = b"wrapped:1:"
ID_BYTES = 8
KEY_BYTES = 32
_NONCE_BYTES = 12
_NONCE_AT = len(PREFIX) + ID_BYTES

RELOAD_SECONDS = 1.0
"""How often at most the sources are read again for the same unknown master key."""


class MasterKeySource(Protocol):
    """Where master keys are stored: a file, or a key management service that decrypts them at the
    start of a process. Its text names it."""

    def load(self) -> Sequence[bytes]:
        """All master keys, of KEY_BYTES each. Raises OSError, ValueError."""
        ...

    def add(self, key: bytes) -> None:
        """Store another master key durably, beside the others. Raises OSError."""
        ...


class MasterKeyMissing(psycopg.OperationalError):
    """This process lacks the master key that something is wrapped with. Like a database that is
    away: nothing is wrong with the request, and it may succeed once the key is there."""


def id_of(key: bytes) -> bytes:
    """The id of a master key, which tells nothing about it."""
    return hashlib.sha256(b"ludoteca.master-key.1" + key).digest()[:ID_BYTES]


def wrapped_by(stored: bytes) -> bytes | None:
    """The id of the master key that wraps this; None when it is stored as it is."""
    return stored[len(PREFIX) : _NONCE_AT] if stored.startswith(PREFIX) else None


def of_person(person_id: UUID) -> bytes:
    """What a person's key is bound to."""
    return b"person:" + person_id.bytes


def of_secret(name: str) -> bytes:
    """What one of the program's secrets is bound to."""
    return b"secret:" + name.encode()


class Keyring:
    """The master keys that this process has."""

    def __init__(self) -> None:
        self._sources: list[MasterKeySource] = []
        self._ciphers: dict[bytes, AESGCM] = {}
        self._loading = threading.Lock()
        self._missed_at: dict[bytes, float] = {}

    def use(self, source: MasterKeySource) -> None:
        """Have the master keys of this source, too. Raises as its `load`."""
        with self._loading:
            self._load(source)
            if source not in self._sources:
                self._sources.append(source)

    def has(self, key_id: bytes) -> bool:
        """Whether this process has the master key, perhaps since a moment ago."""
        if key_id not in self._ciphers:
            self._look_for(key_id)
        return key_id in self._ciphers

    def wrap(self, key: bytes, master_key_id: bytes | None, bound_to: bytes) -> bytes:
        """The key as it is to be stored: wrapped, or as it is without a master key. Raises
        MasterKeyMissing."""
        if master_key_id is None:
            return key
        nonce = urandom(_NONCE_BYTES)
        sealed = self._cipher(master_key_id).encrypt(nonce, key, bound_to)
        return PREFIX + master_key_id + nonce + sealed

    def unwrap(self, stored: bytes, bound_to: bytes) -> bytes:
        """The key that was stored. Raises MasterKeyMissing; DataCorrupted when it was changed, or
        belongs to something else."""
        master_key_id = wrapped_by(stored)
        if master_key_id is None:
            return stored
        nonce = stored[_NONCE_AT : _NONCE_AT + _NONCE_BYTES]
        try:
            return self._cipher(master_key_id).decrypt(
                nonce, stored[_NONCE_AT + _NONCE_BYTES :], bound_to
            )
        except InvalidTag:
            raise psycopg.errors.DataCorrupted(
                "a key in the schema `private` was changed, or copied from another row"
            ) from None

    def _cipher(self, key_id: bytes) -> AESGCM:
        if not self.has(key_id):
            raise MasterKeyMissing(
                f"this process does not have the master key {key_id.hex()}: add it to the file of"
                " LUDOTECA_MASTER_KEY_FILE"
            )
        return self._ciphers[key_id]

    def _look_for(self, key_id: bytes) -> None:
        """Read the sources again. One that cannot be read now takes nothing away."""
        with self._loading:
            if time.monotonic() - self._missed_at.get(key_id, -RELOAD_SECONDS) < RELOAD_SECONDS:
                return
            for source in self._sources:
                try:
                    self._load(source)
                except (OSError, ValueError) as error:
                    logger.warning("%s cannot be read for a master key: %s", source, error)
            if key_id not in self._ciphers:
                self._missed_at[key_id] = time.monotonic()

    def _load(self, source: MasterKeySource) -> None:
        for key in source.load():
            self._ciphers[id_of(key)] = AESGCM(key)


KEYRING = Keyring()
"""The master keys of this process. There is one keyring, as there is one user that a process runs
as: whatever opens a log or reads pages of it needs the same."""
