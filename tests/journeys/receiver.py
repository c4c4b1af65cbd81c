"""A receiver of traces: OTLP over HTTP, kept in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span as it came.

    Attributes:
        service: Who sent it.
        links: Ids of the traces that it links to.
    """

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: frozenset[str]
    failed: bool


@dataclass
class Receiver:
    """Where services send their traces."""

    endpoint: str
    spans: list[Seen] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Seen]:
        """Return the spans of one trace that have come."""
        return [span for span in list(self.spans) if span.trace_id == trace_id]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's signature
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Seen]:
    for of_service in request.resource_spans:
        names = {one.key: one.value.string_value for one in of_service.resource.attributes}
        for of_scope in of_service.scope_spans:
            for span in of_scope.spans:
                yield Seen(
                    service=names["service.name"],
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=frozenset(link.trace_id.hex() for link in span.links),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )
