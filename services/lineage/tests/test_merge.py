from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.lineage.domain.graph import Graph, joined
from millrace.lineage.domain.openlineage import graph_of_openlineage
from millrace.lineage.store import Store
from millrace.runtime.testing import store
from millrace.sdk.stack.postgres import Postgres

T0 = datetime(2013, 2, 1, tzinfo=UTC)
Case = tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]


def of(events: list[dict[str, Any]]) -> Graph:
    return joined(graph_of_openlineage(event, "demo") for event in events)


def table(name: str, **facets: Any) -> dict[str, Any]:
    return {"namespace": "postgres://db:5432", "name": name, "facets": facets}


@st.composite
def openlineage_events(draw: st.DrawFn) -> dict[str, Any]:
    names = st.sampled_from(["a", "b", "c", "é\0", "x" * 600])
    facet = st.fixed_dictionaries({"v": st.integers(0, 2)})
    facets = st.dictionaries(st.sampled_from(["schema", "version"]), facet, max_size=2)
    things = st.lists(st.builds(lambda n, f: table(n, **f), names, facets), max_size=3)
    at = (T0 + timedelta(seconds=draw(st.integers(0, 5)))).isoformat()
    job = {"namespace": "spark", "name": draw(names), "facets": draw(facets)}
    event: dict[str, Any] = {"eventTime": at, "producer": "https://p", "schemaURL": "https://s"}
    shape = draw(st.sampled_from(["run", "run", "run", "job", "dataset"]))
    if shape == "dataset":
        return event | {"dataset": draw(things.filter(bool))[0]}
    event |= {"job": job, "inputs": draw(things), "outputs": draw(things)}
    if shape == "run":
        run: dict[str, Any] = {"runId": draw(st.sampled_from(["r1", "R1", "r2"])), "facets": draw(facets)}
        if draw(st.booleans()):
            run["facets"]["parent"] = {"run": {"runId": "r3"}, "job": job}
        states = ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]
        event |= {"run": run, "eventType": draw(st.sampled_from(states))}
    return event


@st.composite
def shuffled(draw: st.DrawFn) -> Case:
    events = draw(st.lists(openlineage_events(), max_size=8))
    again = draw(st.permutations(events + (draw(st.lists(st.sampled_from(events), max_size=4)) if events else [])))
    cuts = sorted(draw(st.lists(st.integers(0, len(again)), max_size=3)))
    return events, [again[a:b] for a, b in zip([0, *cuts], [*cuts, len(again)], strict=True)]


@given(shuffled())
def test_any_order_duplication_and_split_of_the_same_events_gives_the_same_graph(case: Case) -> None:
    events, batches = case

    assert joined(of(batch) for batch in batches).dump() == of(events).dump()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=shuffled())
async def test_the_database_holds_the_same_graph_byte_for_byte(postgres: Postgres, case: Case) -> None:
    events, batches = case

    async with store(postgres, "lineage", Store) as tx:
        for batch in batches:
            tx.join(of(batch))
            await tx.flush()

        assert (await tx.graph()).dump() == of(events).dump()
