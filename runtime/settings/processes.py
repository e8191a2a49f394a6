"""How many processes there are, and what they log."""

from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from runtime.settings.values import checked


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
    request_log: Literal["on", "off"] = Field(
        "on", description="Whether the API logs a line for each request."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which a process other than the API shows its metrics, at LUDOTECA_HOST; the processes of `run` take this and the next ones. 0: under `run` PORT + 4000, otherwise none.",
    )
    otlp_endpoint: str = Field(
        "",
        description="Collector that takes traces: http://host:4318 (OTLP over HTTP). Empty: no traces are made. Needs the extra `traces`.",
    )
    trace_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces that begin here which are sent to the collector; others follow the flag in the request's `traceparent`.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        if "@" in checked(value, "http", "https", base=True):
            raise ValueError("a login belongs into OTEL_EXPORTER_OTLP_HEADERS")
        if value and find_spec("opentelemetry.exporter.otlp.proto.http") is None:
            raise ValueError("it needs the extra `traces`: pip install 'ludoteca[traces]'")
        return value.rstrip("/").removesuffix("/v1/traces")
