"""The master key of this instance: where it is, and that it is the right one."""

import logging
from os import urandom
from pathlib import Path

from adapters.master_key_file import MasterKeyFile
from eventstore import rewrapping
from eventstore.database.postgres import connect
from eventstore.master_keys import KEY_BYTES, KEYRING, id_of
from kit.wording import reason
from runtime.host.home import MASTER_KEY_FILE
from runtime.settings import Settings

logger = logging.getLogger(__name__)


class WrongMasterKey(Exception):
    """The master key is missing, is another shop's, or is no key. The message says what to do."""


def key_file(settings: Settings) -> MasterKeyFile | None:
    """The file with the instance's master keys; None if it has none."""
    if settings.master_key_file:
        return MasterKeyFile(Path(settings.master_key_file))
    return MasterKeyFile(settings.home / MASTER_KEY_FILE) if settings.embedded else None


def use_master_key(settings: Settings) -> None:
    """Read the master keys of this instance, as far as they are there. Raises WrongMasterKey."""
    file = key_file(settings)
    try:
        if file is not None:
            KEYRING.use(file)
    except (OSError, ValueError) as error:
        raise WrongMasterKey(f"the master key cannot be read: {_said(error)}") from None


def _said(error: OSError | ValueError) -> str:
    file = error.filename if isinstance(error, OSError) else None
    return f"{file}: {reason(error)}" if file else reason(error)


def prepare_master_key(url: str, settings: Settings) -> None:
    """Check that this process has the shop's master key. A new shop, and one whose database is
    embedded, begins to use one here; any other by `ludoteca keys rotate`, as processes of an older
    release may still read its keys. Raises WrongMasterKey, psycopg.Error."""
    use_master_key(settings)
    with connect(url, "ludoteca", role="") as conn:

        def choose(current: bytes | None) -> bytes | None:
            if current is not None:
                _must_have(current, settings)
                return current
            if settings.embedded or rewrapping.is_new(conn):
                return _first_key(settings)
            return None

        rewrapping.begin(conn, choose)
        if settings.embedded and rewrapping.has_unwrapped(conn):
            count = rewrapping.rewrap(conn)
            logger.info("%d keys of persons and secrets are now wrapped by the master key", count)


def _must_have(key_id: bytes, settings: Settings) -> None:
    if KEYRING.has(key_id):
        return
    file = key_file(settings)
    where = (
        "set LUDOTECA_MASTER_KEY_FILE to the file that has it"
        if file is None
        else f"put it into {file}, from where the operator keeps it or from a backup"
    )
    raise WrongMasterKey(
        f"this shop's master key is {key_id.hex()}, without which no personal data and no secret"
        f" can be read: {where}. Nothing was changed"
    )


def _first_key(settings: Settings) -> bytes | None:
    """The id of the master key that a shop begins with. Made if it has a file in HOME."""
    file = key_file(settings)
    if file is None:
        return None
    if not file.path.exists():
        if not settings.embedded or settings.master_key_file:
            raise WrongMasterKey(
                f"LUDOTECA_MASTER_KEY_FILE: {file.path} is not there. Make it for a new shop:"
                f" (umask 077; openssl rand -base64 {KEY_BYTES} > {file.path})"
            )
        file.add(urandom(KEY_BYTES))
        use_master_key(settings)
    keys = file.load()
    if not keys:
        raise WrongMasterKey(f"{file.path} has no master key")
    return id_of(keys[-1])
