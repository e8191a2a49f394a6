"""How long things are kept that would grow for ever."""

from pydantic import BaseModel, Field

from eventstore.consumers.histories import TRAIL_DAYS

_MOST = 36_500


class KeepingSettings(BaseModel):
    """How long things are kept that would grow for ever."""

    reaction_keys_days: int = Field(
        365,
        gt=TRAIL_DAYS,
        le=_MOST,
        description="How long it is known that a reaction, a deadline or a loaded row was done; HTTP idempotency keys live for 24 hours.",
    )
    refusals_days: int = Field(
        365,
        ge=1,
        le=_MOST,
        description="How long refusals of reactions are kept, to be looked up (consumers.refusals).",
    )
    dead_letters_days: int = Field(
        365, ge=1, le=_MOST, description="How long a dead letter waits to be redriven."
    )
    storages_days: int = Field(
        30,
        ge=1,
        le=_MOST,
        description="How long storages of read models are kept that nothing reads or feeds: of older versions, of rebuilds that died.",
    )
    message_files_days: int = Field(
        90, ge=1, le=_MOST, description="How long files in HOME/mail and HOME/push are kept."
    )
    as_of_minutes: int = Field(
        60,
        ge=1,
        le=_MOST,
        description="How long tables are kept that queries of a past moment had built, after their last use.",
    )
    as_of_schemas: int = Field(
        8,
        ge=1,
        le=1_000,
        description="For how many past moments such tables are kept at a time.",
    )
    as_of_mib: int = Field(
        4_096,
        ge=1,
        description="How many MiB such tables take: beyond, those unused for longest go.",
    )
