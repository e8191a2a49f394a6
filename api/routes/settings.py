"""The program's settings, for operators."""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Page
from api.services import ServicesOf

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])


class SettingView(Answer):
    """A setting: its environment variable, its value (secrets are masked), whether that comes from
    the environment or is the default, and its meaning."""

    variable: str
    value: str
    source: Literal["environment", "default"]
    default: str
    meaning: str


@router.get("/settings", response_model=Page[SettingView])
async def list_settings(services: ServicesOf, _: Auditor) -> Response:
    """List the settings of the API process that answers. Requires AUDITOR or ADMIN."""
    items = [SettingView.model_validate(each) for each in services.settings_shown]
    return answer(Page[SettingView](items=items))
