"""What a new shop needs before it opens: a first ADMIN, and a sample of games."""

import asyncio
import secrets
from pathlib import Path

import msgspec

from commands.bus import SYSTEM
from domain.errors import Conflict
from eventstore.uuid7 import uuid7  # noqa: F401
from runtime.load import load_games
from runtime.settings import Settings
from runtime.wiring import Core, open_core

SAMPLE = Path(__file__).parent / "sample" / "games.csv"
PASSWORD_FILE = "admin-password.txt"  # noqa: S105 - a file's name


class FirstStart(msgspec.Struct, frozen=True):
    """What to tell the person who started the shop; no password where theirs is not ours to tell."""

    admin_password: str | None


def prepare(settings: Settings, url: str) -> FirstStart:
    """Make the first ADMIN and load the sample, where that was not done before."""
    return asyncio.run(_prepare(settings.model_copy(update={"database_url": type(settings.database_url)(url)})))


async def _prepare(settings: Settings) -> FirstStart:
    async with open_core(settings) as core:
        new = await core.log.head() == 0
        password = await _first_admin(core)
        if new and settings.sample == "on":
            await load_games(core, SAMPLE)
        return FirstStart(password)


async def _first_admin(core: Core) -> str | None:
    settings, kept = core.settings, core.settings.home / PASSWORD_FILE
    given = settings.admin_password.get_secret_value()
    password = given or (kept.read_text().strip() if kept.exists() else secrets.token_urlsafe(12))
    if not given and not kept.exists():
        kept.touch(mode=0o600)
        kept.write_text(password + "\n")
    try:
        await core.accounts.register(
            SYSTEM, email=settings.admin_email, password=password, name="First admin", account_type="ADMIN"
        )
    except Conflict:  # made at an earlier start
        return None if given else password
    return password
