import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from millrace.runtime import logs, telemetry
from millrace.runtime.envelope import Envelope
from millrace.runtime.errors import Conflict
from millrace.runtime.logs import add_error, add_identity, describe
from millrace.runtime.traceparent import current_trace_id, current_traceparent, read_traceparent, traceparent_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from runtime_effects import version

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Receiver:
    """An OTLP receiver in this process."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    raise NotImplementedError
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    (name,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                    outer.spans += [(name, span) for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Stay quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


def test_spans_of_several_services_arrive_in_one_trace(receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server.server_port}"
    telemetry.start("one", otlp_endpoint=url, stream=io.StringIO())
    telemetry.start("two", otlp_endpoint=url, stream=io.StringIO())
    try:
        with telemetry.span("one", "asks", parent=PARENT):
            carried = current_traceparent()
        with telemetry.span("two", "answers", parent=carried, links=[PARENT], attributes={"a": 1}):
            pass
        with telemetry.event_span("two", version("flights"), envelope(carried)) as followed:
            assert followed is not None
            assert followed.traceparent == current_traceparent()
    finally:
        telemetry.stop("one")
        telemetry.stop("two")

    spans = {span.name: (name, span) for name, span in receiver.spans}
    assert {name: service for name, (service, _) in spans.items()} == {
        "asks": "one",
        "answers": "two",
        "VersionPublished handle": "two",
    }
    assert {span.trace_id.hex() for _, span in spans.values()} == {PARENT.split("-")[1]}
    assert spans["answers"][1].parent_span_id == spans["asks"][1].span_id
    assert len(spans["answers"][1].links) == 1


def envelope(traceparent: str) -> Envelope:
    return Envelope(uuid4(), "t", "s", "k", "demo", 1, None, traceparent)


def test_where_nothing_is_exported_the_trace_still_goes_on() -> None:
    with telemetry.span("quiet", "outer", parent=PARENT):
        with telemetry.span("quiet", "inner"):
            assert current_trace_id() == PARENT.split("-")[1]
            assert current_traceparent() == PARENT
        with telemetry.event_span("quiet", version("flights"), envelope(PARENT)) as same:
            assert same is not None
            assert same.traceparent == PARENT
    assert current_traceparent() == ""


def test_a_trace_that_is_not_recorded_goes_on_and_leaves_nothing_where_others_are_exported(receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server.server_port}"
    telemetry.start("recording", otlp_endpoint=url, stream=io.StringIO())
    quiet = f"{PARENT[:-2]}00"
    try:
        with telemetry.span("recording", "work", parent=quiet, attributes={"a": "b"}) as made:
            assert current_traceparent() == quiet
            with telemetry.span("recording", "inner"):
                assert current_trace_id() == PARENT.split("-")[1]
            made.set_attribute("late", 1)
        with pytest.raises(RuntimeError), telemetry.span("recording", "fails", parent=quiet):
            raise RuntimeError("of the work")
        with telemetry.span("recording", "told", parent=PARENT):
            assert current_traceparent() != PARENT
    finally:
        telemetry.stop("recording")

    assert current_traceparent() == ""
    assert [span.name for _, span in receiver.spans] == ["told"]


@pytest.mark.parametrize(
    "text",
    ["", "x", PARENT[:-1], PARENT.upper(), PARENT.replace("4bf", "zzz"), "00-" + "0" * 32 + PARENT[35:], PARENT + "-x"],
)
def test_what_is_no_trace_context_begins_a_new_trace(text: str) -> None:
    assert read_traceparent(text) is None
    with telemetry.span("quiet", "x", parent=text):
        assert len(current_traceparent()) == len(PARENT)


def test_a_trace_context_survives_the_journey() -> None:
    context = read_traceparent(PARENT)

    assert context is not None
    assert traceparent_of(context) == PARENT


def test_a_log_line_names_its_trace() -> None:
    with telemetry.span("quiet", "x", parent=PARENT):
        assert add_identity(None, "", {"event": "e"})["trace_id"] == PARENT.split("-")[1]


def test_a_logged_exception_tells_where_and_never_quotes_values() -> None:
    secret = "hunter2"
    try:
        try:
            int(secret)
        except ValueError as error:
            raise Conflict("run 7 is failed, not running") from error
    except Conflict as error:
        line = json.dumps(add_error(None, "", {"event": "e", "exc_info": error}))
        chain = describe(error)

    assert "hunter2" not in line.replace("secret = ", "")
    assert [link["type"] for link in chain] == ["millrace.runtime.errors.Conflict", "builtins.ValueError"]
    assert [link.get("message") for link in chain] == ["run 7 is failed, not running", None]
    assert "test_telemetry.py" in chain[0]["frames"][-1]


def test_a_full_disk_costs_log_lines_and_nothing_else() -> None:
    lost = []
    with io.TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True) as full:
        stream = logs.Lossy(full, lambda: lost.append(1))

        written = stream.write("a line\n")
        stream.flush()

    assert written == len("a line\n")
    assert lost == [1]
