"""When the shop audits itself."""

from pydantic import BaseModel, Field

from runtime.settings.values import Duration


class AuditingSettings(BaseModel):
    """When the shop audits itself."""

    self_audit_seconds: Duration = Field(
        10,
        gt=0,
        description="How often the worker looks at a sample of what must always hold (docs/self-audit.md); less often where that would take more than 5 percent of a core.",
    )
    self_audit_whole_hours: float = Field(
        24,
        ge=0.1,
        le=8760,
        description="How often it looks at everything, in a process of its own.",
    )
    self_audit_grace_seconds: Duration = Field(
        600,
        ge=0,
        description="How late deadlines, jobs, consumers of the log and receipts may be before that is a finding.",
    )
