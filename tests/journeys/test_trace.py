import json

from millrace.contracts import SERVICES, oip
from millrace.runtime.testing import until

from tests.journeys.conftest import FEBRUARY, JANUARY, SPAN_ID, TRACE_ID, Journey
from tests.journeys.receiver import Seen

WORK = {
    ("control", "trigger match"),
    ("control", "run decide"),
    ("data", "data.ingest"),
    ("data", "millrace.data.v1.DataService/ReadPlan"),
    ("feature", "feature.materialise"),
    ("feature", "feature.training_set"),
    ("training", "training.tune"),
    ("training", "training.evaluate"),
    ("training", "training.promote"),
    ("inference", "inference.deploy"),
    ("inference", "inference.shift"),
}
LOOKED_ON = {
    ("lineage", "VersionPublished handle"),
    ("lineage", "DeploymentReady handle"),
    ("lineage", "LineageReported handle"),
    ("observability", "TaskSucceeded handle"),
    ("observability", "RunSucceeded handle"),
}


async def test_one_trace_runs_from_the_event_through_every_service_to_the_deployment(journey: Journey) -> None:
    async def whole() -> list[Seen]:
        found = journey.receiver.of(TRACE_ID)
        come = {(span.service, span.name) for span in found} >= WORK | LOOKED_ON
        return found if come and not without_parent(found) else []

    try:
        spans = await until(whole)
    except AssertionError:
        spans = journey.receiver.of(TRACE_ID)

    assert {(span.service, span.name) for span in spans} >= WORK | LOOKED_ON
    assert without_parent(spans) == set()
    assert journey.runs[JANUARY].trace_id == TRACE_ID
    assert {span.service for span in spans} == set(SERVICES)
    assert not [span for span in spans if span.failed]


async def test_the_trace_of_a_prediction_links_to_the_one_that_deployed_its_model(journey: Journey) -> None:
    prediction_id = oip.read_bytes(journey.answer, "prediction_id")[0].decode()
    explained = await journey.shop.explain(prediction_id)
    trace_id = json.loads(explained.prediction_json)["trace_id"]

    async def answered() -> list[Seen]:
        return [span for span in journey.receiver.of(trace_id) if span.name.endswith("/ModelInfer")]

    (span,) = await until(answered)

    assert span.service == "inference"
    assert span.links == {journey.runs[FEBRUARY].trace_id}
    assert trace_id != journey.runs[FEBRUARY].trace_id


def without_parent(spans: list[Seen]) -> set[tuple[str, str]]:
    """Return the spans whose parent has not come; the shop's own never does."""
    known = {SPAN_ID} | {span.span_id for span in spans}
    return {(span.service, span.name) for span in spans if span.parent_id not in known}
