"""What a new shop needs before it opens: a first ADMIN and a sample of games."""

import asyncio
import secrets
from pathlib import Path

import msgspec

from commands.caller import SYSTEM
from domain.errors import Conflict
from eventstore.keys import secret
from runtime.host.home import PASSWORD_FILE
from runtime.load import load_games
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core

SAMPLE = Path(__file__).parent / "sample" / "games.csv"
SAMPLE_WANTED, SAMPLE_LOADED = "sample_wanted", "sample_loaded"


class FirstStart(msgspec.Struct, frozen=True):
    """What to tell the person who started the shop: the first ADMIN's password if it was generated,
    or else whether LUDOTECA_ADMIN_PASSWORD is in effect. Neither is set if the account already
    existed."""

    admin_password: str | None
    is_as_set: bool = False


def prepare(settings: Settings, url: str) -> FirstStart:
    """Create the first ADMIN and load the sample, unless an earlier start has done so."""
    return asyncio.run(
        _prepare(settings.model_copy(update={"database_url": type(settings.database_url)(url)}))
    )


async def _prepare(settings: Settings) -> FirstStart:
    async with open_core(settings) as core:
        sample_is_due = await _sample_is_due(core)
        first = await _first_admin(core)
        if sample_is_due:
            await load_games(core, SAMPLE)
            await secret(core.log.pool, SAMPLE_LOADED, lambda: b"yes")
        return first


async def _sample_is_due(core: Core) -> bool:
    """Whether this shop should get the sample and does not have all of it yet, as a start may be
    killed. The database stores both facts beside the secrets, because they belong to the shop and
    not to this machine."""
    on = core.settings.sample == "on"
    new = await core.log.head() == 0
    wanted = await secret(core.log.pool, SAMPLE_WANTED, lambda: b"yes" if new and on else b"no")
    async with core.log.pool.connection() as conn:
        loaded = await conn.execute("SELECT FROM private.secrets WHERE name = %s", (SAMPLE_LOADED,))
        return on and wanted == b"yes" and loaded.rowcount == 0


async def _first_admin(core: Core) -> FirstStart:
    settings, kept = core.settings, core.settings.home / PASSWORD_FILE
    given = settings.admin_password.get_secret_value()
    # empty if the disk was full
    noted = kept.read_text(encoding="utf-8").strip() if kept.exists() else ""
    password = given or noted or secrets.token_urlsafe(12)
    if not given and not noted:
        kept.touch(mode=0o600)
        kept.write_text(password + "\n", encoding="utf-8")
    try:
        await core.commands.accounts.register(
            SYSTEM,
            email=settings.admin_email,
            password=password,
            name="First admin",
            account_type="ADMIN",
        )
    except Conflict:  # it exists already: created with another password, or changed since
        if not given and not noted:
            kept.unlink(missing_ok=True)
        if not await core.commands.logins.is_password_of(settings.admin_email, password):
            return FirstStart(None)
    return FirstStart(None if given else password, is_as_set=bool(given))
