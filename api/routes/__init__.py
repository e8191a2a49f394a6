"""The routes by context. Each module has a `router` of canonical paths; their aliases are in `api.aliases`."""

from collections.abc import Sequence

from fastapi import APIRouter

ROUTERS: Sequence[APIRouter] = ()
