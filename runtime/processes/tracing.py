"""Sends this process's spans to a collector, by OTLP over HTTP."""

import atexit
import logging
import os
import socket
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from kit import tracing
from kit.metrics import SPANS
from kit.seldom import Seldom
from runtime.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

EXPORT_SECONDS = 5
"""How long a batch of spans is offered to a collector that does not take it."""

LAST_SECONDS = 1.0
"""How long an ending process waits for the collector to take its last spans."""


def start_tracing(settings: Settings, process: str) -> None:
    """Make spans, and send them to LUDOTECA_OTLP_ENDPOINT, if it is set.

    They are sent by a thread of their own. It keeps the latest 2,048 (OTEL_BSP_MAX_QUEUE_SIZE) and
    drops older ones: nothing waits for a collector.
    """
    if not settings.otlp_endpoint:
        return
    # slow to import, and of the extra `traces`
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from kit.spans import OpenTelemetrySpans

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # _counted says what is wrong
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint}/v1/traces", timeout=EXPORT_SECONDS)
    provider = TracerProvider(
        ParentBased(TraceIdRatioBased(settings.trace_ratio)),
        Resource.create(
            {
                "service.namespace": "ludoteca",
                "service.name": f"ludoteca-{process}",
                "service.version": version("ludoteca"),
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            }
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(_counted(exporter)))
    tracing.use(OpenTelemetrySpans(provider.get_tracer("ludoteca")))
    _flush_at_exit(provider)


def _counted(exporter: "SpanExporter") -> "SpanExporter":
    """The exporter, which counts the spans that are sent and lost, and warns of the latter."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    warn = Seldom(logger, seconds=60.0).warning

    class Counted(SpanExporter):
        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            result = exporter.export(spans)
            taken = result is SpanExportResult.SUCCESS
            SPANS.labels("sent" if taken else "lost").inc(len(spans))
            if not taken:
                warn("lost", f"the collector of traces did not take {len(spans)} spans")
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Counted()


def _flush_at_exit(provider: "TracerProvider") -> None:
    ending, flushed = threading.Event(), threading.Event()

    def flush() -> None:
        ending.wait()
        provider.shutdown()
        flushed.set()

    def end() -> None:
        ending.set()
        flushed.wait(LAST_SECONDS)

    # started now: an ending interpreter starts no more threads
    threading.Thread(target=flush, name="last-spans", daemon=True).start()
    atexit.register(end)
