"""What the processes and commands do with KurrentDB."""

from collections.abc import Callable

from adapters.kurrentdb import log_copy
from adapters.kurrentdb.log_copy import VerifiedCopy
from adapters.kurrentdb.mirror import MIRROR, Mirror
from runtime.database.instance import database_url
from runtime.settings import Settings
from runtime.wiring.codec import codec

__all__ = ["MIRROR", "VerifiedCopy", "copy_to_kurrentdb", "copy_to_postgresql", "mirror_of"]

Progress = Callable[[str, int, int], None]


def mirror_of(settings: Settings) -> Mirror:
    """This instance's mirror."""
    url = settings.kurrentdb
    return Mirror(url, database_url(settings), codec().kinds)


async def copy_to_kurrentdb(url: str, kurrentdb_url: str, progress: Progress) -> VerifiedCopy:
    """As `log_copy.to_kurrentdb`."""
    return await log_copy.to_kurrentdb(url, kurrentdb_url, progress)


async def copy_to_postgresql(kurrentdb_url: str, url: str, progress: Progress) -> VerifiedCopy:
    """As `log_copy.to_postgresql`."""
    return await log_copy.to_postgresql(kurrentdb_url, url, codec(), progress)
