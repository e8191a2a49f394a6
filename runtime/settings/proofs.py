"""Signed checkpoints of the log."""

from pydantic import BaseModel, Field, SecretStr, field_validator

from runtime.settings.values import Duration, checked


class ProofSettings(BaseModel):
    """Signed checkpoints of the log."""

    checkpoint_events: int = Field(
        10_000, ge=1, description="After so many events a checkpoint of the log is signed."
    )
    checkpoint_seconds: Duration = Field(
        3600, gt=0, le=3600, description="And after so long, if anything was appended."
    )
    witness_url: SecretStr = Field(
        SecretStr(""),
        description="Where signed checkpoints are posted, for somebody else to hold: the `add-checkpoint` of a C2SP witness, or any server that keeps what it is sent.",
    )

    @field_validator("witness_url")
    @classmethod
    def _witness(cls, value: SecretStr) -> SecretStr:
        return checked(value, "http", "https")
