"""Which trace something belongs to, as text that travels: the W3C trace context."""

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

_PARENT_LENGTH = 55


def current_traceparent() -> str:
    """Return the W3C trace context of what is going on, or nothing."""
    found = trace.get_current_span().get_span_context()
    return traceparent_of(found) if found.is_valid else ""


def current_trace_id() -> str:
    """Return the id of the current trace, 32 hex digits, or nothing."""
    found = trace.get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else ""


def traceparent_of(context: SpanContext) -> str:
    """Return a span's W3C trace context, as it travels in Kafka headers and gRPC metadata."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def read_traceparent(text: str) -> SpanContext | None:
    """Return the span that a W3C trace context names, or nothing when it is none."""
    parts = text.split("-")
    if len(text) < _PARENT_LENGTH or len(parts) < 4 or (parts[0] == "00" and len(text) != _PARENT_LENGTH):  # noqa: PLR2004 - its parts
        return None
    version, trace_id, span_id, flags = parts[:4]
    if version == "ff" or [len(p) for p in parts[:4]] != [2, 32, 16, 2] or not text.isascii() or text != text.lower():
        return None
    try:
        sampled = TraceFlags(int(flags, 16) & TraceFlags.SAMPLED)
        found = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=sampled)
    except ValueError:
        return None
    return found if found.is_valid else None
