"""When the shop raises alerts, and who else may."""

from pydantic import BaseModel, Field, SecretStr

from runtime.settings.values import Duration


class AlertingSettings(BaseModel):
    """When the shop raises alerts, and who else may."""

    alert_seconds: Duration = Field(
        10,
        gt=0,
        description="How often the worker looks whether something is wrong (docs/runbooks/alerts.md).",
    )
    alert_hold_seconds: Duration = Field(
        30,
        ge=0,
        description="How long that must hold before an alert is raised, and be over before it is resolved.",
    )
    alert_late_seconds: Duration = Field(
        60,
        gt=0,
        description="How late consumers of the log, jobs and deadlines may be.",
    )
    alertmanager_token: SecretStr = Field(
        SecretStr(""),
        description="What Alertmanager sends as its bearer token, so that its alerts are recorded, too (docs/monitoring.md). Empty: they are not taken.",
    )
