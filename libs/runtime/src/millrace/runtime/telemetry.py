"""Traces and metrics: the names of them all, and how they leave the process."""

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, TextIO

from millrace.runtime import logs
from millrace.runtime.traceparent import read_traceparent, traceparent_of
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags, Tracer
from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from millrace.contracts.event import Event
    from millrace.runtime.envelope import Envelope
    from opentelemetry.sdk.trace import TracerProvider

# Attributes of spans: OpenTelemetry's semantic conventions first.
RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_CODE = "rpc.grpc.status_code"
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_BATCH_COUNT = "messaging.batch.message_count"
EVENT_TYPE = "millrace.event.type"
NAMESPACE = "millrace.namespace"
TASK_ID = "millrace.task.id"
TASK_KIND = "millrace.task.kind"
RUN_ID = "millrace.run.id"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

RPC_DURATION = Histogram(
    "rpc_server_call_duration_seconds", "Time to answer a call.", ["method", "code"], buckets=_SECONDS
)
RPC_IN_FLIGHT = Gauge("millrace_rpc_in_flight", "Calls being answered.", ["service"])
RPC_WAITING = Gauge("millrace_rpc_waiting", "Calls that stand in line.", ["service", "priority"])
RPC_SHED = Counter("millrace_rpc_shed", "Calls turned away for load.", ["service", "priority"])
EVENTS_HANDLED = Counter("millrace_events_handled", "Events whose effects are committed.", ["service"])
EVENTS_FAILED = Counter("millrace_events_failed", "Times an event could not be handled.", ["topic"])
HOPED_IN_VAIN = Counter(
    "millrace_hoped_in_vain", "Rounds done twice: something was not as it nearly always is.", ["service"]
)
EVENTS_SKIPPED = Counter("millrace_events_skipped", "Events of a type not known here.", ["topic"])
EVENTS_HELD = Counter("millrace_events_held", "Events put aside as rows.", ["topic"])
PARKED_KEYS = Gauge("millrace_parked_keys", "Keys whose events wait for an operator.", ["service", "topic"])
BATCH_EVENTS = Histogram("millrace_batch_events", "Events of one transaction.", ["service"], buckets=_ROWS)
BATCH_DURATION = Histogram("millrace_batch_duration_seconds", "Time to settle one poll.", ["service"], buckets=_SECONDS)
CONSUMER_LAG = Gauge("millrace_consumer_lag_events", "Events not yet read.", ["service", "topic"])
OFFSETS_OUT_OF_RANGE = Counter(
    "millrace_offsets_out_of_range", "Times what was to be read was no longer there.", ["service", "topic"]
)
EVENTS_EXPIRED = Counter("millrace_events_expired", "Events gone before they were read.", ["service", "topic"])
TOPIC_MISSING = Counter("millrace_topic_missing", "Looks by which a topic did not exist.", ["service", "topic"])
OUTBOX_SENT = Counter("millrace_outbox_sent", "Events that the relay sent.")
OUTBOX_EVENTS = Gauge("millrace_outbox_events", "Events waiting for the relay.", ["service"])
OUTBOX_AGE = Gauge("millrace_outbox_oldest_age_seconds", "Age of the oldest event waiting.", ["service"])
TASKS_RUNNING = Gauge("millrace_tasks_running", "Tasks being worked on.", ["kind"])
TASK_DURATION = Histogram(
    "millrace_task_duration_seconds", "Time from acceptance to the end.", ["kind", "outcome"], buckets=_LONG_SECONDS
)
LOG_WRITES_LOST = Counter("millrace_log_writes_lost", "Log lines that could not be written, such as on a full disk.")
HOUSEKEEPING_REMOVED = Counter(
    "millrace_housekeeping_removed", "What went because it was past its time.", ["service", "what"]
)
HOUSEKEEPING_DURATION = Histogram(
    "millrace_housekeeping_batch_seconds", "Time to remove one batch.", ["service", "what"], buckets=_SECONDS
)
HOUSEKEEPING_FAILED = Counter(
    "millrace_housekeeping_failed", "Rounds that a rule's fault cut short.", ["service", "what"]
)
READY = Gauge("millrace_ready", "Whether the service is of use now.", ["service"])
CLOCK_SKEW = Gauge("millrace_clock_skew_seconds", "By how much the database's clock is ahead of this process's.")
ROUND_AGE = Gauge("millrace_round_age_seconds", "How long the round of events at hand takes so far.", ["service"])
ASYNCIO_TASKS = Gauge("millrace_asyncio_tasks", "Tasks of the event loop.")
TRIGGER_MATCH = Gauge(
    "millrace_trigger_last_match_timestamp_seconds",
    "When a trigger last took an event; 0 for never.",
    ["namespace", "trigger"],
)
TRIGGER_ERROR = Gauge(
    "millrace_trigger_last_error_timestamp_seconds",
    "When something last went wrong with a trigger as it is applied now; 0 for never.",
    ["namespace", "trigger"],
)
PREDICTIONS_DROPPED = Counter("millrace_predictions_dropped", "Answered rows that could not be logged.")

FLUSH_S = 3.0
_TRACER_NAME = "millrace.runtime"

_providers: dict[str, "TracerProvider"] = {}
_tracers: dict[str, Tracer] = {}


def start(service: str, *, otlp_endpoint: str = "", sample_ratio: float = 1.0, stream: TextIO | None = None) -> None:
    """Begin to log as JSON lines (as text on a terminal), and to send traces when there is somewhere to send them.

    Args:
        service: Its name; becomes `service.name`.
        otlp_endpoint: OTLP/HTTP base URL, such as `http://127.0.0.1:4318`; empty sends no traces.
        sample_ratio: Share of new traces that are recorded; a trace that came from elsewhere keeps its decision.
        stream: Where log lines go; standard output when not given.
    """
    logs.configure(service, stream or sys.stdout, LOG_WRITES_LOST.inc)
    if otlp_endpoint and service not in _providers:
        _providers[service] = provider = _exporting(service, otlp_endpoint, sample_ratio)
        _tracers[service] = provider.get_tracer(_TRACER_NAME)


def _exporting(service: str, otlp_endpoint: str, sample_ratio: float) -> "TracerProvider":
    # Most processes have nowhere to send traces; what sends them takes a good part of a start.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "millrace"}),
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        span_limits=SpanLimits(max_attributes=32, max_attribute_length=256, max_links=128),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000, max_queue_size=8192))
    return provider


def stop(service: str) -> None:
    """Send the traces that remain, for at most a few seconds."""
    _tracers.pop(service, None)
    provider = _providers.pop(service, None)
    if provider:
        last = Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(FLUSH_S)


def link(traceparent: str) -> None:
    """Say of the current span that another trace, named by its W3C trace context, led to it."""
    found = read_traceparent(traceparent)
    if found:
        trace.get_current_span().add_link(found)


@contextmanager
def span(
    service: str,
    name: str,
    *,
    parent: str = "",
    links: Sequence[str] = (),
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int | float] | None = None,
) -> Iterator[Span]:
    """Open a span around what happens inside; what raises is noted by its class.

    Where nothing is exported, or the trace above is not recorded, it only carries that on, which costs next to nothing.

    Args:
        service: Whose it is.
        name: Of few distinct values; no ids.
        parent: W3C trace context that it goes on with; else the current one, else a new trace.
        links: W3C trace contexts of other traces that led to it.
        kind: Which side of a call or a message it is.
        attributes: What to say of it; ids yes, payloads never.
    """
    above = read_traceparent(parent) if parent else None
    tracer = _tracers.get(service)
    if tracer is None or (above and not above.trace_flags.sampled):
        made: Span = NonRecordingSpan(_carried(above or trace.get_current_span().get_span_context()))
    else:
        known = [found for found in map(read_traceparent, links) if found]
        made = tracer.start_span(
            name,
            context=_context(above) if above else None,
            kind=kind,
            attributes=attributes,
            links=[Link(found) for found in known],
        )
    token = contexts.attach(trace.set_span_in_context(made))
    try:
        yield made
    except BaseException as error:
        made.set_status(StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        made.end()
        contexts.detach(token)


def event_span(
    service: str, event: "Event | None", envelope: "Envelope | None"
) -> "AbstractContextManager[Envelope | None]":
    """Open the span of one event where its trace is recorded; yield its envelope with the trace to go on with."""
    if envelope is None or event is None or service not in _tracers or not envelope.traceparent.endswith("1"):
        return nullcontext(envelope)
    return _recorded(service, event, envelope)


@contextmanager
def _recorded(service: str, event: "Event", envelope: "Envelope") -> "Iterator[Envelope]":
    attributes = {MESSAGING_SYSTEM: "kafka", MESSAGING_MESSAGE_ID: str(envelope.event_id), NAMESPACE: event.namespace}
    name = f"{type(event).__name__} handle"
    with span(service, name, parent=envelope.traceparent, kind=SpanKind.CONSUMER, attributes=attributes) as made:
        yield replace(envelope, traceparent=traceparent_of(made.get_span_context()))


def _context(above: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(above), Context())


def _carried(above: SpanContext) -> SpanContext:
    """Return the span to go on with where none is recorded: the one above, so that no link of the trace is missing."""
    if above.is_valid:
        return above
    return SpanContext(
        random.getrandbits(128) | 1,
        random.getrandbits(64) | 1,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
