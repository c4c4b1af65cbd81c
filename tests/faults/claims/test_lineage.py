"""The judge's claims about lineage on facts made by hand: each gap in the graph is named."""

from dataclasses import replace

import pytest
from millrace.contracts.rpc.lineage.v1 import lineage_pb2

from tests.faults.checker import check
from tests.faults.claims.example import (
    FEATURES,
    FILE,
    REPORTED,
    RUN,
    SAID,
    VERSION,
    Graph,
    around,
    found,
    good,
    hop,
    known,
    silent,
    way,
    without,
)

COMPLETE = "the lineage of every run that has ended is complete"


@pytest.mark.parametrize("graph", [None, known(RUN, "START"), *(known(RUN, lacks=name) for name in ("start", "end"))])
def test_a_run_that_lineage_does_not_know_is_found(graph: Graph | None) -> None:
    facts = good()

    assert found(replace(facts, graphs={**facts.graphs, f"run:{RUN}": graph})) == {(COMPLETE, "lost")}


@pytest.mark.parametrize("graph", [known(RUN, lacks="millrace_run"), known(RUN, reported="running")])
def test_a_report_of_a_run_that_did_not_come_is_found(graph: Graph) -> None:
    facts = good()

    assert found(replace(facts, graphs={**facts.graphs, f"run:{RUN}": graph})) == {(COMPLETE, "lost")}


@pytest.mark.parametrize("node", REPORTED)
def test_a_report_of_a_task_that_did_not_come_is_found(node: str) -> None:
    facts = good()

    findings = check(replace(facts, graphs={**facts.graphs, node: None}))

    assert [(finding.claim, finding.kind, finding.about) for finding in findings] == [(COMPLETE, "lost", node)]


@pytest.mark.parametrize(
    ("node", "lacks"),
    [(node, thing) for node, (used, made) in REPORTED.items() for thing in sorted({f"run:{RUN}", *used, *made})],
)
def test_a_report_of_a_task_that_lacks_something_is_found(node: str, lacks: str) -> None:
    facts = good()
    used, made = REPORTED[node]

    less = around(node, {f"run:{RUN}", *used} - {lacks}, made - {lacks})

    assert found(replace(facts, graphs={**facts.graphs, node: less})) == {(COMPLETE, "incomplete")}


def test_the_loss_of_every_report_of_lineage_is_found_although_all_edges_of_things_are_there() -> None:
    facts = good()
    reports = {f"run:{one}": known(one, lacks="millrace_run") for one in facts.runs} | dict.fromkeys(REPORTED)

    findings = check(replace(facts, graphs={**facts.graphs, **reports}))

    assert {finding.about for finding in findings} == reports.keys()


@pytest.mark.parametrize("node", SAID)
def test_what_was_told_of_a_thing_and_is_not_said_of_it_is_found(node: str) -> None:
    facts = good()
    graphs = {name: silent(seen, node) for name, seen in facts.graphs.items() if seen}

    assert found(replace(facts, graphs=graphs)) == {(COMPLETE, "lost")}


@pytest.mark.parametrize("broken", [way(VERSION, FEATURES), way(FILE, VERSION), way(FILE, "data.version:v2")])
def test_a_gap_in_the_way_from_a_file_is_found(broken: Graph) -> None:
    facts = good()

    findings = found(replace(facts, graphs={**facts.graphs, VERSION: broken}))

    assert findings == {("the lineage of every run that has ended is complete", "incomplete")}


def test_a_cycle_is_found_even_where_no_single_answer_holds_it() -> None:
    facts = good()

    findings = found(replace(facts, graphs={**facts.graphs, FEATURES: way(FEATURES, FILE)}))

    assert findings == {("lineage has no cycle", "incomplete")}


def test_an_answer_that_is_not_explained_is_found() -> None:
    gap = lineage_pb2.ExplainResponse(complete=False, missing=["training.model:m"], hops=[hop("file")])

    claim = "each answer is explained down to its files"

    assert found(replace(good(), explanations={"p1": gap})) == {(claim, "incomplete"), (claim, "lost")}
    assert found(replace(without(good(), "PredictionsLogged"), explanations={"p1": gap})) == {(claim, "incomplete")}


def test_an_answer_that_lineage_does_not_know_or_not_in_the_detail_that_was_told_is_found() -> None:
    bare = lineage_pb2.ExplainResponse(complete=True, hops=[hop("file")])
    lost = {("each answer is explained down to its files", "lost")}

    assert found(replace(good(), explanations={"p1": None})) == lost
    assert found(replace(good(), explanations={"p1": bare})) == lost
    assert check(replace(without(good(), "PredictionsLogged"), explanations={"p1": bare})) == []
