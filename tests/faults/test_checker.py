"""The judge on histories made by hand: a good one passes, and each thing that is wrong in it is named."""

from dataclasses import replace

import pytest
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.runtime.errors import NotFound

from tests.faults.checker import SEEN, check, verdict
from tests.faults.claims.example import EVENT, RUN, again, changed, cost, entry, found, good, known, told, without
from tests.faults.effects import Effect
from tests.faults.facts import Facts, grown
from tests.faults.reads import by_key

DONE = "what is asked for is done: an event starts a run"
COUNTED = "each event is counted once by who counts them"


def test_where_all_is_well_nothing_is_found() -> None:
    assert verdict(good()) == []


def test_a_history_in_which_nothing_is_asked_for_is_refused() -> None:
    assert check(Facts()) == []
    assert {finding.claim for finding in verdict(Facts())} == {SEEN}


@pytest.mark.parametrize(
    ("missing", "unseen"),
    [
        ("trigger", "not one event was acknowledged"),
        ("start", "not one run was started by a call"),
        ("predict", "not one prediction was answered"),
    ],
)
def test_what_was_never_answered_is_missed(missing: str, unseen: str) -> None:
    facts = good()
    unanswered = [
        replace(one, outcome="unknown") if (one.op, one.outcome) == (missing, "ok") else one for one in facts.history
    ]

    assert unseen in {finding.detail for finding in verdict(replace(facts, history=unanswered))}


def test_a_request_that_nobody_repeated_and_a_prediction_that_nobody_explained_are_missed() -> None:
    facts = good()
    asked = [one for one in facts.history if one.op == "start"]
    once = [one for one in facts.history if one is not asked[0]]

    assert [str(one) for one in verdict(replace(facts, history=once))] == [
        f"{SEEN}: unseen: not one request was answered twice"
    ]
    assert "not one prediction was explained" in {one.detail for one in verdict(replace(facts, explanations={}))}


def test_runs_of_one_service_alone_are_not_the_main_job() -> None:
    facts = good()
    alone = control_pb2.Run(run_id=RUN, state="succeeded", event_id=EVENT, tasks=facts.runs[RUN].tasks[:1])

    findings = verdict(replace(facts, runs={**facts.runs, RUN: alone}))

    assert "not one run over 3 services succeeded" in {finding.detail for finding in findings}


def test_a_client_that_broke_is_found() -> None:
    facts = good()
    broken = entry("broken", "load-1", "unknown", "OSError(28, 'No space left on device')")

    assert found(replace(facts, history=[*facts.history, broken])) == {("no client of the load breaks", "failed")}


def test_an_event_that_was_not_acknowledged_may_have_come_to_nothing() -> None:
    facts = good()
    unknown = [entry("trigger", "event-2", "invoke"), entry("trigger", "event-2", "unknown")]
    explained = {**facts.explained, "event-2": control_pb2.ExplainEventResponse()}

    assert check(replace(facts, history=[*facts.history, *unknown], explained=explained)) == []


def test_a_refusal_that_is_on_record_is_no_loss_but_not_what_was_asked_for() -> None:
    refused = control_pb2.TriggerMatch(trigger="full", disposition="ignored", reason="the filter says no")
    explained = control_pb2.ExplainEventResponse(received=True, matches=[refused])
    facts = Facts(history=[entry("trigger", EVENT)], explained={EVENT: explained})

    assert found(facts) == {(DONE, "failed")}


@pytest.mark.parametrize(("state", "lineage"), [("failed", "FAIL"), ("refused", "COMPLETE"), ("cancelled", "ABORT")])
def test_a_run_that_did_not_succeed_is_found_however_well_it_is_known(state: str, lineage: str) -> None:
    facts = good()
    end = f"Run{state.capitalize()}"
    otherwise = [
        replace(one, type=end) if (one.type, one.key) == ("RunSucceeded", "run-2") else one for one in facts.told
    ]
    ended = replace(
        facts,
        told=otherwise,
        runs={**facts.runs, "run-2": changed(facts.runs["run-2"], state=state)},
        graphs={**facts.graphs, "run:run-2": known("run-2", lineage, state)},
        costs={**facts.costs, "run-2": changed(facts.costs["run-2"], state=state)},
    )

    assert [(finding.kind, finding.about) for finding in check(ended)] == [("failed", "run-2")]
    assert found(ended) == {(DONE, "failed")}


@pytest.mark.parametrize("received", [False, True])
def test_an_acknowledged_event_that_came_to_nothing_is_lost(received: bool) -> None:
    explained = {EVENT: control_pb2.ExplainEventResponse(received=received)}
    facts = Facts(history=[entry("trigger", EVENT)], explained=explained)

    assert found(facts) == {("each acknowledged event led to exactly one run or a recorded refusal", "lost")}


def test_a_second_run_of_an_event_is_found() -> None:
    facts = good()
    second = control_pb2.Run(run_id="run-3", state="succeeded", event_id=EVENT)

    findings = found(replace(facts, runs={**facts.runs, "run-3": second}))

    assert ("each acknowledged event led to exactly one run or a recorded refusal", "doubled") in findings


def test_a_run_of_an_event_that_was_refused_each_time_is_found_and_of_one_that_was_open_once_is_not() -> None:
    facts = good()
    others = [one for one in facts.history if one.op != "trigger"]
    refused, still_open = entry("trigger", EVENT, "fail"), entry("trigger", EVENT, "unknown")
    claim = "an event that was refused each time led to no run"

    assert found(replace(facts, history=[*others, refused, refused])) == {(claim, "changed")}
    assert check(replace(facts, history=[*others, still_open, refused])) == []


def test_a_run_that_does_not_end_is_found() -> None:
    facts = good()
    runs = {**facts.runs, "run-2": changed(facts.runs["run-2"], state="running")}

    assert ("every run ends", "open") in found(replace(facts, runs=runs))


def test_an_end_that_was_not_told_or_told_otherwise_is_found() -> None:
    facts = good()
    otherwise = [replace(one, type="RunFailed") if one.type == "RunSucceeded" else one for one in facts.told]

    assert ("every run ends", "lost") in found(without(facts, "RunSucceeded"))
    assert ("every run ends", "lost") in found(replace(facts, told=otherwise))


def test_an_end_or_a_begin_that_was_told_twice_is_found() -> None:
    assert ("every run ends", "doubled") in found(again(good(), "RunSucceeded", "another"))
    assert ("every run ends", "doubled") in found(again(good(), "RunStarted", "another"))


def test_a_task_that_succeeded_twice_or_was_not_told_is_found() -> None:
    assert ("a task is done once", "doubled") in found(again(good(), "TaskSucceeded", "another"))
    assert ("a task is done once", "lost") in found(without(good(), "TaskSucceeded"))


def test_an_event_that_is_sent_again_is_no_second_event() -> None:
    facts = good()

    assert check(replace(facts, told=[*facts.told, *facts.told])) == []


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [((3, 4, 6), "lost"), ((3, 5, 4), "disordered"), ((4, 3, 5), "disordered"), ((3, 4, 4), "doubled")],
)
def test_the_numbers_of_a_key_count_up_by_one(numbers: tuple[int, ...], kind: str) -> None:
    events = [replace(told("Noted", "k", number), event_id=str(n)) for n, number in enumerate(numbers)]

    findings = check(Facts(everybody=events))

    assert [finding.kind for finding in findings] == [kind]
    assert findings[0].claim == "facts of a key are told in order, without a gap"


def test_another_answer_to_the_same_request_is_found() -> None:
    facts = good()
    history = [*facts.history, entry("start", "call-1", value="run-9")]

    assert ("a request that is asked twice gets the same answer", "doubled") in found(replace(facts, history=history))


def test_a_run_that_had_ended_and_goes_on_is_found() -> None:
    facts = good()
    history = [*facts.history, entry("read", RUN, value="failed")]

    assert ("what has ended stays as it ended", "changed") in found(replace(facts, history=history))


def test_one_id_for_two_predictions_is_found() -> None:
    facts = good()
    history = [*facts.history, entry("predict", "b", value="p1")]

    assert ("each answer of a model has an id of its own", "doubled") in found(replace(facts, history=history))


def test_what_was_done_outside_twice_or_not_at_all_is_found() -> None:
    facts = good()
    twice = [*facts.effects, Effect(8, "task-other", EVENT, "outside", 1)]
    assert found(replace(facts, effects=twice)) == {("what a run does outside happens once", "doubled")}
    assert found(replace(facts, effects=[])) == {("what a run does outside happens once", "lost")}


def test_a_call_outside_that_was_repeated_under_its_key_is_no_second_effect() -> None:
    facts = good()

    assert check(replace(facts, effects=[replace(facts.effects[0], calls=3)])) == []


@pytest.mark.parametrize("type_", ["VersionPublished", "AliasMoved"])
def test_what_a_registry_has_twice_or_not_at_all_is_found(type_: str) -> None:
    facts = good()

    assert ("what a run puts into a registry is there once", "doubled") in found(again(facts, type_, "another"))
    assert ("what a run puts into a registry is there once", "lost") in found(without(facts, type_))


def test_features_put_online_twice_are_found_and_those_that_newer_ones_overtook_are_not_missed() -> None:
    claim = "what a run puts into a registry is there once"

    assert found(again(good(), "ViewMaterialised", "another")) == {(claim, "doubled")}
    assert check(without(good(), "ViewMaterialised")) == []


def test_a_registry_that_does_not_have_what_was_told_is_found() -> None:
    lost = {("what a run puts into a registry is there once", "lost")}

    assert found(replace(good(), versions=[])) == lost
    assert found(replace(good(), aliases=[])) == lost


def test_what_is_counted_twice_or_not_at_all_is_found() -> None:
    facts = good()

    assert found(replace(facts, handled={**facts.handled, "control.runs": 5})) == {(COUNTED, "doubled")}
    assert found(replace(facts, handled={**facts.handled, "control.runs": 3})) == {(COUNTED, "lost")}
    assert ("what a run took is counted once", "doubled") in found(replace(facts, costs={RUN: cost(RUN, 9.0)}))


def test_a_topic_of_which_nothing_at_all_is_counted_is_found() -> None:
    facts = good()

    assert found(replace(facts, handled={"control.runs": 4})) == {(COUNTED, "lost")}
    assert found(replace(facts, handled={})) == {(COUNTED, "lost")}


def test_a_count_that_has_not_grown_is_told_as_such() -> None:
    assert grown({"a": 3, "b": 2, "d": 1}, {"a": 1, "b": 2, "c": 1}) == {"a": 2, "b": 0, "c": -1, "d": 1}


@pytest.mark.parametrize("costs", [{}, {RUN: None}])
def test_a_run_of_which_nobody_knows_what_it_took_is_found(costs: dict[str, None]) -> None:
    facts = good()

    unknown = replace(facts, costs={"run-2": facts.costs["run-2"], **costs})

    assert found(unknown) == {("what a run took is counted once", "lost")}


async def test_what_is_asked_about_and_not_found_is_among_the_answers() -> None:
    async def ask(key: str) -> str:
        if key == "b":
            raise NotFound("no b")
        return key.upper()

    assert await by_key(ask, ["a", "b"]) == {"a": "A", "b": None}
