from millrace.contracts import SERVICES
from millrace.runtime.testing import until

from tests.journeys.conftest import JANUARY, TRACE_ID, Journey
from tests.journeys.receiver import Seen


async def spans_of(journey: Journey, trace_id: str) -> list[Seen]:
    """All spans of a trace, once every service has sent some."""

    async def complete() -> list[Seen]:
        found = journey.receiver.of(trace_id)
        return found if {span.service for span in found} == set(SERVICES) else []

    found: list[Seen] = await until(complete)
    return found


async def test_one_trace_runs_from_the_event_through_every_service_to_the_deployment(journey: Journey) -> None:
    spans = await spans_of(journey, TRACE_ID)

    assert journey.runs[JANUARY].trace_id == TRACE_ID
    names = {(span.service, span.name) for span in spans}
    print(sorted(names))
    assert 0
