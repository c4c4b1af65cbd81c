"""Runs in this process, with real work and real time."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.parse import parse_workflow
from millrace.runtime.errors import InvalidInput
from millrace.sdk import work
from millrace.sdk.flows import Flow, Node, Ref, TaskKind, flow, foreach, parallel, plan, subflow, task, wait
from millrace.sdk.local import RunFailed
from millrace.sdk.local.clock import Clock
from millrace.sdk.local.play import Options, play

DAY_S = 86_400


def once(body: Callable[..., Any], **options: Any) -> Flow:
    kind = task("data.work", **options)(body)

    @flow("once")
    def traced(trigger: Ref) -> Node:
        return kind.step("work")(item=trigger.data)

    return traced


def each_of(body: Callable[..., Any], concurrency: int = 50, **options: Any) -> Flow:
    kind = task("data.work", **options)(body)

    @flow("each.of")
    def traced(trigger: Ref) -> None:
        @foreach(trigger.data, concurrency=concurrency, tolerate={"percent": 0})
        def each(item: Ref) -> None:
            kind.step("work")(item=item)

    return traced


def test_a_task_can_be_called_as_the_plain_function_that_it_is() -> None:
    @task("data.double")
    def double(x: int) -> dict[str, int]:
        work.progress(0.5, "nobody listens")
        return {"twice": 2 * x}

    assert double.fn(3) == {"twice": 6}
    assert work.attempt() is None
    with pytest.raises(RuntimeError, match=r"<task>\.fn\(\.\.\.\) calls the plain function"):
        double(x=3)
    with pytest.raises(AttributeError, match=r"data\.other has no function"):
        _ = task("data.other").fn


def test_plain_functions_work_at_the_same_time_and_no_more_of_them_than_there_are_workers() -> None:
    together = threading.Barrier(3)
    under_way: list[int] = []
    most: list[int] = []

    def meet(item: int) -> None:
        under_way.append(item)
        most.append(len(under_way))
        together.wait(10)  # passed only when three are here at once
        under_way.remove(item)

    run = each_of(meet).run_local(list(range(9)), workers=3, quiet=True)

    assert run.state == "succeeded"
    assert max(most) == 3


def test_hundreds_of_coroutines_wait_at_once_in_one_thread() -> None:
    arrived = 0
    threads = set()

    async def meet(item: int) -> None:
        nonlocal arrived
        arrived += 1
        threads.add(threading.get_ident())
        while arrived < 400:
            await asyncio.sleep(0.01)

    run = each_of(meet, concurrency=400).run_local(list(range(400)), workers=1, quiet=True)

    assert run.state == "succeeded"
    assert len(threads) == 1


def test_a_wait_takes_its_time_and_none_when_it_is_to_be_skipped() -> None:
    tries: list[int] = []

    @task("data.flaky", retries={"backoff_s": 3_600, "max_backoff_s": 3_600})
    def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("away")

    @flow("patient", timeout_s=60 * DAY_S)
    def patient(trigger: Ref) -> None:
        flaky.step(after=[wait(trigger.data)])()

    @flow("brief")
    def brief() -> None:
        wait(0.3)

    began = time.monotonic()
    brief.run_local(quiet=True)
    took_s = time.monotonic() - began
    skipped = patient.run_local(30 * DAY_S, quiet=True, skip_waits=True)

    assert took_s >= 0.3
    assert (skipped.state, len(skipped.calls)) == ("succeeded", 3)
    assert skipped.elapsed_s > 30 * DAY_S + 3_600


def test_what_failed_is_raised_from_what_the_task_raised_with_the_authors_line() -> None:
    def fails(item: Any) -> None:
        raise ValueError("no good")

    with pytest.raises(RunFailed, match="once failed: task work failed: ValueError: no good") as caught:
        once(fails, retries={"max_attempts": 1}).run_local(quiet=True)

    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__traceback__ is not None
    assert cause.__traceback__.tb_frame.f_code.co_filename == __file__
    assert caught.value.run.raised["work"].place.endswith('raise ValueError("no good")')


def test_a_run_that_failed_or_was_refused_is_returned_to_who_asks_for_that() -> None:
    def fails(item: Any) -> None:
        raise InvalidInput("never")

    run = once(fails).run_local(quiet=True, check=False)

    assert (run.state, len(run.calls)) == ("failed", 1)
    assert isinstance(run.error, InvalidInput)


def test_what_work_prints_and_logs_is_kept_with_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    def talks(item: int) -> None:
        print("item", item)  # noqa: T201 - what is tested
        print("no end", end="")  # noqa: T201 - likewise
        logging.getLogger("mine").warning("careful\nwith it")

    run = each_of(talks).run_local([7])

    shown = capsys.readouterr()
    lines = [(line.task, line.text) for line in run.lines]
    assert sorted(lines) == sorted(
        [
            ("each[0].work", "item 7"),
            ("each[0].work", "no end"),
            ("each[0].work", "WARNING mine: careful"),
            ("each[0].work", "with it"),
        ]
    )
    assert shown.out == ""
    assert "  each[0].work  item 7\n" in shown.err


def test_what_is_printed_beside_a_run_goes_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]

    once(lambda **_: None).run_local(quiet=True)
    print("after")  # noqa: T201 - likewise

    assert capsys.readouterr().out == "after\n"
    assert logging.getLogger().handlers == before


def test_progress_is_shown_and_ends_work_that_is_no_longer_wanted() -> None:
    stopped = threading.Event()

    def works(item: str) -> None:
        if item == "bad":
            started.wait(10)
            raise InvalidInput("bad")
        try:
            while True:
                started.set()
                work.progress(0.5, "half")
                time.sleep(0.01)
        except work.Stopped:
            stopped.set()
            raise

    started = threading.Event()
    run = each_of(works).run_local(["slow", "bad"], quiet=True, check=False)

    assert run.state == "failed"
    assert stopped.is_set()
    assert (run.tasks["each[0].work"].state, run.tasks["each[0].work"].fraction) == ("cancelled", 0.5)


def test_a_coroutine_is_cancelled_when_it_is_no_longer_wanted() -> None:
    async def waits(item: str) -> None:
        if item == "bad":
            raise InvalidInput("bad")
        await asyncio.sleep(3_600)

    run = each_of(waits).run_local(["slow", "bad"], quiet=True, check=False)

    assert (run.state, run.tasks["each[0].work"].state) == ("failed", "cancelled")


def test_work_that_takes_longer_than_it_may_is_tried_again() -> None:
    tries = []

    async def hangs(item: Any) -> None:
        tries.append(item)
        if len(tries) == 1:
            await asyncio.sleep(3_600)

    run = once(hangs, run_timeout_s=0.2, retries={"backoff_s": 0}).run_local(1, quiet=True)

    assert (run.state, len(run.calls)) == ("succeeded", 2)


def test_silent_work_that_is_alive_is_not_taken_for_dead() -> None:
    workflow = parse_workflow({"name": "w", "tasks": {"a": {"kind": "data.a", "heartbeat_timeout_s": 0.1}}})
    bodies = {"data.a": lambda **_: time.sleep(0.5)}

    run = play(workflow, bodies, {}, clock=Clock(), options=Options(quiet=True))

    assert (run.state, len(run.calls)) == ("succeeded", 1)


def test_what_control_would_refuse_is_no_flow_either_and_says_which_line() -> None:
    silent = (
        r"tasks\.work\.heartbeat_timeout_s: is less than 15: workers are heard of every 5 s \[.*test_local\.py:\d+\]"
    )

    with pytest.raises(InvalidDocument, match=silent):
        once(lambda **_: None, heartbeat_timeout_s=5)
    with pytest.raises(InvalidDocument, match=r"tasks\.wait\.wait\.for_s: is 604800, and its run ends after 86400 s"):
        flow("waits")(lambda: wait(7 * DAY_S))


def test_of_branches_at_once_the_first_wins_and_the_others_stop() -> None:
    async def sleeps(item: float) -> dict[str, float]:
        await asyncio.sleep(item)
        return {"slept": item}

    kind = task("data.sleep")(sleeps)

    @flow("race")
    def race() -> Node:
        def sleeping(name: str, seconds: float) -> Callable[[], Node]:
            return lambda: kind.step(name)(item=seconds)

        return parallel({"a": sleeping("go_a", 0.01), "b": sleeping("go_b", 3_600)}, quorum=1)

    assert race.run_local(quiet=True).output == {"a": {"slept": 0.01}}


def test_runs_that_steps_start_go_on_beside_the_others() -> None:
    both = threading.Barrier(2)
    kind = task("data.meet")(lambda: {"met": both.wait(10) >= 0})

    @flow("inner")
    def inner() -> Node:
        return kind()

    @flow("outer")
    def outer() -> dict[str, Any]:
        return {name: subflow("inner", name=name)["met"] for name in ("one", "two")}

    assert outer.run_local(flows=[inner], quiet=True).output == {"one": True, "two": True}


def test_what_is_planned_needs_functions_too() -> None:
    def searched() -> Flow:
        other: TaskKind = task("data.other")(lambda: {"found": 1})

        @task("data.search", plans=True)
        def search() -> dict[str, Any]:
            return plan(other)

        @flow("searched")
        def traced() -> Node:
            return search()

        return traced

    flow_ = searched()
    with pytest.raises(RunFailed, match=r"InvalidInput: no function does data\.other here: give its kind along"):
        flow_.run_local(quiet=True)
    assert flow_.run_local(quiet=True, kinds=[task("data.other")(lambda: {"found": 2})]).output == {"found": 2}


def test_a_run_in_a_process_of_ones_own_thread_is_a_run_too() -> None:
    runs: list[Any] = []
    thread = threading.Thread(target=lambda: runs.append(once(lambda item: {"x": item}).run_local(3, quiet=True)))
    thread.start()
    thread.join()

    assert runs[0].output == {"x": 3}


async def test_a_run_can_be_had_where_a_loop_is_running() -> None:
    async def waits(item: int) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"x": item}

    assert once(waits).run_local(3, quiet=True).output == {"x": 3}


def test_processes_need_functions_that_another_process_finds() -> None:
    with pytest.raises(RunFailed, match="processes=True needs it at the top of a module"):
        once(lambda **_: None).run_local(1, processes=True, quiet=True)


def test_there_is_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="workers is 0: at least one is needed"):
        once(lambda **_: None).run_local(1, workers=0)
