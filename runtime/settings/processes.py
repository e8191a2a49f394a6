"""How many processes there are, and what they log."""

from typing import Literal

from pydantic import BaseModel, Field


class ProcessSettings(BaseModel):
    """How many processes there are, and what they log."""

    workers: int = Field(
        16, ge=1, le=256, description="How many payments one worker process handles at once."
    )
    api_processes: int = Field(
        1, ge=1, le=64, description="How many API processes `run` starts; they share HOST:PORT."
    )
    worker_processes: int = Field(1, ge=1, le=64, description="How many workers `run` starts.")
    projector_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="How many projectors `run` starts; one leads each read model, the others stand by.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="The format of the processes' logs."
    )
