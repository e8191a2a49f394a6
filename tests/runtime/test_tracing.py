"""Spans: what is their parent, what follows an unwanted one, and what a collector may cost."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from pydantic import ValidationError

from kit import tracing
from kit.metrics import timed_call
from kit.spans import OpenTelemetrySpans
from runtime.settings import Settings
from tests.support.servers.collector import running_collector

REMOTE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNWANTED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Made:
    """The spans of this process that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self._exporter.get_finished_spans() if span.name == name)
        return found

    def __len__(self) -> int:
        return len(self._exporter.get_finished_spans())


@pytest.fixture
def made() -> Iterator[Made]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(ParentBased(TraceIdRatioBased(1.0)))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(OpenTelemetrySpans(provider.get_tracer("tests")))
    yield Made(exporter)
    tracing.use(None)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def test_a_span_is_part_of_what_it_is_about(made: Made) -> None:
    with tracing.span("outer", REMOTE), tracing.span("inner", REMOTE):
        assert (tracing.traceparent() or "").split("-")[1] == REMOTE.split("-")[1]
    outer, inner = made["outer"].parent, made["inner"].parent
    assert outer is not None
    assert f"{outer.span_id:016x}" == REMOTE.split("-")[2]
    assert inner is not None
    assert inner.span_id == id_of(made["outer"])


def test_what_is_about_another_trace_is_linked_to_the_span_at_hand(made: Made) -> None:
    with tracing.span("notice"), tracing.span("decide", REMOTE):
        pass
    parent = made["decide"].parent
    assert parent is not None
    assert f"{parent.trace_id:032x}" == REMOTE.split("-")[1]
    (link,) = made["decide"].links
    assert link.context.span_id == id_of(made["notice"])


def test_an_unwanted_trace_has_no_spans_and_stays_unwanted(made: Made) -> None:
    with tracing.span("request", UNWANTED), timed_call("server"):
        traceparent = tracing.traceparent() or ""
    assert traceparent.split("-")[1] == UNWANTED.split("-")[1]
    assert traceparent.endswith("-00")
    assert len(made) == 0


def test_a_call_that_belongs_to_nothing_begins_no_trace(made: Made) -> None:
    with timed_call("server"):
        pass
    assert len(made) == 0


def test_a_failure_is_told_by_its_type_and_not_by_its_text(made: Made) -> None:
    for expected in ((), (LookupError,)):
        name = f"expected {len(expected)}"
        with pytest.raises(KeyError), tracing.span(name, expected=expected):
            raise KeyError("ann@example.com")
    assert not made["expected 0"].status.is_ok
    assert not made["expected 0"].status.is_unset
    assert made["expected 1"].status.is_unset
    for span in (made["expected 0"], made["expected 1"]):
        assert dict(span.attributes or {}) == {"error.type": "KeyError"}
        assert not span.events


@pytest.mark.parametrize("nonsense", ["", "x", "00-0-0-01", REMOTE.upper(), REMOTE + "\n", "é"])
def test_a_traceparent_that_is_none_begins_a_trace(made: Made, nonsense: str) -> None:
    with tracing.span("request", nonsense):
        pass
    assert made["request"].parent is None


def python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    python(
        "import sys\n"
        "from runtime.processes.tracing import start_tracing\n"
        "from runtime.settings import Settings\n"
        "from kit import tracing\n"
        "start_tracing(Settings(), 'api')\n"
        "with tracing.span('x'): assert tracing.traceparent() is None\n"
        "assert not tracing.headers()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )


def test_a_process_ends_although_its_collector_does_not_answer() -> None:
    with running_collector(is_open=False) as collector:
        python(
            "from kit import tracing\n"
            "from runtime.processes import tracing as sending\n"
            "from runtime.settings import Settings\n"
            "sending.EXPORT_SECONDS = 3600\n"
            f"sending.start_tracing(Settings(otlp_endpoint={collector.url!r}), 'api')\n"
            "for n in range(10_000):\n"
            "    with tracing.span('x'): pass\n"
        )
        assert collector.asked.is_set()


def test_spans_that_a_collector_does_not_take_are_counted_and_told_of() -> None:
    python(
        "import logging, threading\n"
        "from kit import tracing\n"
        "from kit.metrics import SPANS\n"
        "from runtime.processes import tracing as sending\n"
        "from runtime.settings import Settings\n"
        "lines, told = [], threading.Event()\n"
        "class Heard(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        lines.append(record.getMessage())\n"
        "        told.set()\n"
        "sending.logger.addHandler(Heard())\n"
        "sending.EXPORT_SECONDS = 1\n"
        "sending.start_tracing(Settings(otlp_endpoint='http://127.0.0.1:9'), 'api')\n"
        "with tracing.span('x'): pass\n"
        "assert told.wait(30)\n"
        "assert lines == ['the collector of traces did not take 1 spans']\n"
        "assert SPANS.labels('lost')._value.get() == 1\n"
    )


@pytest.mark.parametrize(
    "url", ["http://host:4318", "http://host:4318/", "http://host:4318/v1/traces"]
)
def test_a_collector_is_named_with_or_without_its_path(url: str) -> None:
    assert Settings(otlp_endpoint=url).otlp_endpoint == "http://host:4318"


@pytest.mark.parametrize("url", ["host:4318", "grpc://host:4317", "http://ann:secret@host:4318"])
def test_what_is_no_collector_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(otlp_endpoint=url)
    assert "secret" not in str(refused.value)
