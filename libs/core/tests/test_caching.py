"""Results that are taken instead of being computed again."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.cache_key import MOST_FIELDS, differing, key_of, parts_of
from millrace.core.errors import InvalidDocument
from millrace.core.parse import parse_workflow
from millrace.core.parts import Cache
from millrace.core.plan import compile_plan
from millrace.core.results import Results, Slot, ask, tell
from millrace.core.state import (
    CACHE,
    AskCache,
    CacheAnswered,
    CancelRequested,
    Failure,
    PauseRequested,
    ResultSet,
    ResumeRequested,
    Run,
    RunState,
    Start,
    TaskState,
    TellCache,
    Tick,
)
from simulation import T0, World, started

FETCH: dict[str, Any] = {"kind": "data.fetch", "input": {"month": {"$from": "/trigger/data/month"}}, "cache": {}}
FAILS = Failure("E", "no", retryable=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def another(before: World | None, number: int, month: int = 1, *, refresh: bool = False, **fetch: Any) -> World:
    """A run of the same workflow that has just started, and shares the cache with one before."""
    plan = compile_plan(parse_workflow({"name": "w", "tasks": {"fetch": FETCH | fetch}}))
    run = Run(UUID(int=number), RunState.PENDING, {"data": {"month": month}}, refresh=refresh)
    shared = {"results": before.results, "worlds": before.worlds, "now": before.now} if before is not None else {}
    made = World(plan, run, ids=number * 1_000, **shared)
    made.tell(Start())
    return made


def told(one: World, task: str = "fetch") -> dict[str, Any]:
    found: dict[str, Any] = (one.run.tasks[task].inner or {})[CACHE]
    return found


def test_a_result_that_was_computed_before_is_taken_without_a_dispatch() -> None:
    before = another(None, 1)
    before.succeed("fetch", rows=3)

    again = another(before, 2)

    assert (again.run.state, again.run.tasks["fetch"].output, again.orders) == ("succeeded", {"rows": 3}, [])
    at = told(again)["at"]
    assert {k: told(again)[k] for k in ("found", "run_id", "task")} == {
        "found": "hit",
        "run_id": str(before.run.run_id),
        "task": "fetch",
    }
    assert at == T0.isoformat()


def test_flyte_3787_another_input_version_or_key_is_another_result() -> None:
    before = another(None, 1)
    before.succeed("fetch", rows=3)

    others = [
        another(before, 2, month=2),
        another(before, 3, cache={"version": "2"}),
        another(before, 4, cache={"key": {"$from": "/trigger/data"}}),
        another(before, 5, kind="data.fetch_all"),
    ]

    assert [len(one.orders) for one in others] == [1, 1, 1, 1]
    assert told(others[0])["why"].endswith("task fetch, differs in input.month")
    assert told(others[1])["why"].endswith("task fetch, differs in version")
    assert told(others[2])["why"].endswith("task fetch, differs in key")
    assert told(others[3])["why"] == "no result of data.fetch_all is kept"


def test_a_field_that_is_ignored_makes_no_other_result() -> None:
    before = another(None, 1, cache={"ignore": ["month"]})
    before.succeed("fetch", rows=3)

    assert another(before, 2, month=2, cache={"ignore": ["month"]}).run.tasks["fetch"].output == {"rows": 3}


def test_a_result_is_taken_for_as_long_as_the_task_that_asks_says() -> None:
    before = another(None, 1)
    before.succeed("fetch", rows=3)
    before.now += timedelta(seconds=60)

    young, old = another(before, 2, cache={"expires_s": 61}), another(before, 3, cache={"expires_s": 60})

    assert told(young)["found"] == "hit"
    assert told(old)["why"].endswith("task fetch, at 2026-01-01 00:00:00 UTC, is older than 60 s")


def test_of_two_that_miss_at_once_one_computes_and_the_other_takes_its_result() -> None:
    computes = another(None, 1)
    waits = another(computes, 2)

    assert (len(computes.orders), waits.orders, waits.states()) == (1, [], {"fetch": "waiting"})
    computes.succeed("fetch", rows=3)
    assert (waits.run.state, waits.run.tasks["fetch"].output, waits.orders) == ("succeeded", {"rows": 3}, [])


@pytest.mark.parametrize("ends", ["fails", "is cancelled", "is set by hand", "is lost"])
def test_who_waits_goes_on_when_the_one_that_computes_comes_to_nothing(ends: str) -> None:
    computes = another(None, 1, retries={"lost": 0})
    waits, last = another(computes, 2), another(computes, 3)

    match ends:
        case "fails":
            computes.fail("fetch", FAILS)
        case "is lost":
            computes.fail("fetch", Failure("lost", "gone", lost=True))
        case "is cancelled":
            computes.tell(CancelRequested("enough", force=True))
        case _:
            computes.tell(ResultSet("fetch", TaskState.SUCCEEDED, "ada", {"rows": -1}))

    assert (len(waits.orders), last.orders) == (1, [])
    waits.succeed("fetch", rows=4)
    assert last.run.tasks["fetch"].output == {"rows": 4}


def test_one_attempt_that_fails_gives_the_work_to_nobody_else() -> None:
    computes = another(None, 1)
    waits = another(computes, 2)

    computes.fail("fetch")
    assert (computes.states(), waits.orders) == ({"fetch": "retry_wait"}, [])
    computes.tell(Tick(), after_s=60)
    computes.succeed("fetch", rows=3)

    assert waits.run.tasks["fetch"].output == {"rows": 3}


def test_who_waits_for_another_run_can_be_stopped_and_is_then_waited_for_by_nobody() -> None:
    computes = another(None, 1)
    gone, waits = another(computes, 2), another(computes, 3)

    gone.tell(CancelRequested("enough"))
    computes.fail("fetch", FAILS)

    assert (gone.run.state, gone.orders) == ("cancelled", [])
    assert len(waits.orders) == 1


def test_a_run_that_computes_anew_takes_no_result_waits_for_nobody_and_leaves_its_own() -> None:
    before = another(None, 1)
    before.succeed("fetch", rows=3)
    computes = another(before, 2, refresh=True)
    beside = another(before, 3, refresh=True)

    assert (len(computes.orders), len(beside.orders)) == (1, 1)
    assert told(computes)["why"] == "the run computes all of it anew"
    computes.succeed("fetch", rows=4)
    assert another(before, 4).run.tasks["fetch"].output == {"rows": 4}


def test_two_tasks_of_one_run_with_one_key_are_one_computation() -> None:
    plan = compile_plan(parse_workflow({"name": "w", "tasks": {"a": FETCH, "b": FETCH}}))
    both = World(plan, Run(UUID(int=1), RunState.PENDING, {"data": {"month": 1}}))
    both.tell(Start())
    both.succeed("a", rows=3)

    assert [order.name for order in both.orders] == ["a"]
    assert both.run.tasks["b"].output == {"rows": 3}


def test_nothing_begins_in_a_paused_run_when_its_turn_to_compute_comes() -> None:
    computes = another(None, 1)
    waits = another(computes, 2)
    waits.tell(PauseRequested("ada"))
    computes.fail("fetch", FAILS)

    assert waits.orders == []
    waits.tell(ResumeRequested("ada"))
    waits.tell(Tick())
    assert len(waits.orders) == 1


def test_a_wait_for_a_result_ends_when_the_time_of_the_task_is_up() -> None:
    computes = another(None, 1)
    waits = another(computes, 2, timeout_s=30)

    waits.tell(Tick(), after_s=30)

    assert waits.run.cause == "task fetch failed: Timeout: not done within 30 s in all"
    assert waits.orders == []


def test_what_the_cache_says_too_late_or_twice_changes_nothing() -> None:
    computes = another(None, 1)
    asked = computes.run.tasks["fetch"]

    for task_id in (asked.task_id, UUID(int=5)):
        late = computes.tell(CacheAnswered("fetch", task_id, "hit", {"rows": 9}))
        assert [one.reason for one in late.refused] == [
            f"run {computes.run.run_id} has no task {task_id} named 'fetch' that asks for a result"
        ]
    assert len(computes.orders) == 1


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"plans": True}, "no plans, compensate or teardown"),
        ({"compensate": {"tasks": {"undo": {"kind": "data.undo"}}}}, "no plans, compensate or teardown"),
        ({"cache": {"ignore": ["year"]}}, "cache.ignore names year, which `input` does not have"),
        ({"cache": {"key": {"$from": "/tasks/other/output"}}}, "cache.key.$from: 'other' is not settled before"),
        ({"cache": {"expires_s": 0}}, "expires_s"),
    ],
)
def test_a_cache_that_would_take_wrong_results_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_workflow({"name": "w", "tasks": {"fetch": FETCH | fields}})

    assert complaint in str(caught.value)


def test_only_work_is_cached() -> None:
    with pytest.raises(InvalidDocument, match="so it has no cache"):
        parse_workflow({"name": "w", "tasks": {"a": {"wait": {"for_s": 1}, "cache": {}}}})


@pytest.mark.parametrize(("given", "stored"), [(1.0, 1), (1e16, 10**16), (1e300, 10**300), (-0.0, 0)])
def test_kubeflow_6002_a_number_has_the_same_key_once_postgres_has_read_it(given: float, stored: int) -> None:
    assert key_of("k", Cache(), {"x": given}, None) == key_of("k", Cache(), {"x": stored}, None)


def test_large_numbers_that_a_float_would_make_one_have_keys_of_their_own() -> None:
    assert key_of("k", Cache(), {"x": 2**53}, None) != key_of("k", Cache(), {"x": 2**53 + 1}, None)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4), st.text(max_size=3), json_values)
def test_a_key_depends_on_values_and_not_on_their_order_and_its_parts_say_what_differs(
    given_: dict[str, Any], field: str, value: Any
) -> None:
    cache, other = Cache(), {**given_, field: value}
    same = key_of("k", cache, given_, None) == key_of("k", cache, other, None)

    assert key_of("k", cache, dict(reversed(given_.items())), None) == key_of("k", cache, given_, None)
    found = differing(parts_of("k", cache, given_, None), parts_of("k", cache, other, None))
    assert found == ([] if same else [f"input.{field}"])


def test_of_an_input_with_very_many_fields_the_parts_stay_few() -> None:
    wide = {f"f{n}": n for n in range(MOST_FIELDS + 1)}

    assert set(parts_of("k", Cache(), wide, None)) == {"kind", "version", "key", "input"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ask", "keep", "give up"]), st.integers(0, 4)), max_size=30))
def test_whatever_happens_one_computes_at_a_time_and_nobody_waits_for_nobody(happenings: list[tuple[str, int]]) -> None:
    results, computing, waiting, settled = Results(), set[int](), set[int](), set[int]()
    for what, number in happenings:
        run_id = task_id = UUID(int=number + 1)
        answers = []
        if what == "ask" and number not in computing | waiting | settled:
            waiting.add(number)
            asked = AskCache("t", task_id, "key", "k", 60, refresh=False, parts={})
            answers = results.ask(run_id, asked, T0)
        elif what != "ask" and number in computing | waiting:
            keeps = what == "keep" and number in computing
            settled.add(number)
            computing.discard(number)
            waiting.discard(number)
            kept = {"output": {"by": number}, "kept_s": 60.0} if keeps else {}
            answers = results.tell(run_id, TellCache("t", task_id, "key", "k", {}, **kept), T0)
        for who, answer in answers:
            assert who.int - 1 in waiting, "only who waits is told"
            waiting.discard(who.int - 1)
            (computing if answer.found == "miss" else settled).add(who.int - 1)
        assert len(computing) <= 1
        assert computing or not waiting


def test_a_slot_knows_what_is_asked_again_by_the_task_that_computes() -> None:
    asked = AskCache("t", UUID(int=1), "key", "k", 60, refresh=False, parts={})
    slot, once = ask(Slot(), UUID(int=7), asked, T0)
    again, twice = ask(slot, UUID(int=7), asked, T0)

    assert (again, once) == (slot, twice)
    assert tell(slot, UUID(int=7), TellCache("t", UUID(int=2), "key", "k", {}), T0) == (slot, "nobody")


def test_a_task_without_a_cache_asks_nothing() -> None:
    plain = started(a={"kind": "data.ingest"})
    plain.succeed("a")

    assert not [e for d in plain.decisions for e in d.effects if isinstance(e, AskCache | TellCache)]
