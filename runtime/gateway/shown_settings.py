"""The settings as the gateway shows them to operators."""

import os

from api.services import SettingShown
from runtime.settings import Settings
from runtime.settings.variables import rows


def settings_shown(settings: Settings) -> list[SettingShown]:
    """Every setting with its value and where that comes from, in order. What `ludoteca run` tells
    its processes is in their environment, too."""
    return [
        SettingShown(
            variable,
            value,
            "environment" if os.environ.get(variable) else "default",
            default,
            meaning,
        )
        for variable, value, default, meaning in rows(settings)
    ]
