from collections import Counter
from typing import Any

import pytest
from millrace.core.draft import OPENED_AT_ONCE
from millrace.core.state import CancelAttempt, CancelRequested, ChildEnded, Dispatch, Failure, RunState, Start, Tick
from simulation import T0, World, pending, started
from simulation import world as made

WRONG = Failure("ValueError", "wrong", retryable=False)


def work(kind: str = "data.work", **given: Any) -> dict[str, Any]:
    return {"kind": kind, "input": given, "retries": {"max_attempts": 1}}


def of(pointer: str, **default: Any) -> dict[str, Any]:
    return {"$from": pointer, **default}


def body(output: Any = None, **tasks: Any) -> dict[str, Any]:
    return {"tasks": tasks, **({} if output is None else {"output": output})}


def names(world: World) -> list[str]:
    return [order.name for order in world.orders]


def each(items: Any, **more: Any) -> dict[str, Any]:
    return {
        "foreach": {"items": items, "do": body(of("/tasks/fit/output/score"), fit=work(x=of("/item/each"))), **more}
    }


def test_a_foreach_runs_its_body_for_each_item_and_hands_on_their_outputs_in_order() -> None:
    world = started(
        of("/tasks/each/output"),
        months=work(),
        each={**each(of("/tasks/months/output/all"), key="/name"), "needs": ["months"]},
    )

    world.succeed("months", all=[{"name": "2013-01"}, {"name": "2013-02"}])
    world.succeed("each[2013-02].fit", score=2)
    world.succeed("each[2013-01].fit", score=1)

    assert [order.input for order in world.orders[1:]] == [{"x": {"name": "2013-01"}}, {"x": {"name": "2013-02"}}]
    assert world.run.state is RunState.SUCCEEDED
    assert world.run.output == {"total": 2, "succeeded": 2, "failed": 0, "items": [1, 2]}


def test_a_foreach_over_nothing_succeeds_at_once() -> None:
    world = started(of("/tasks/each/output/items"), each=each([]))

    assert (world.run.state, world.run.output) == (RunState.SUCCEEDED, [])


def test_items_beyond_the_window_are_not_even_begun() -> None:
    world = started(each=each(list(range(100)), concurrency=3))
    most = 0

    while not world.run.state.ended:
        most = max(most, len(world.run.tasks))
        world.succeed(world.open_orders()[0].name, score=0)

    assert names(world)[:3] == ["each[0].fit", "each[1].fit", "each[2].fit"]
    assert len(names(world)) == 100
    assert most <= 1 + 2 * 3, "what is over is no longer in the snapshot"


@pytest.mark.parametrize(
    ("tolerate", "failing", "ended"),
    [
        ({}, 1, "failed"),
        ({"count": 2}, 2, "succeeded"),
        ({"count": 2}, 3, "failed"),
        ({"percent": 20}, 2, "succeeded"),
        ({"percent": 20}, 3, "failed"),
    ],
)
def test_so_many_items_may_fail_as_is_tolerated(tolerate: dict[str, Any], failing: int, ended: str) -> None:
    world = started(each=each(list(range(10)), tolerate=tolerate, concurrency=1))

    world.work(lambda order: WRONG if order.input["x"] < failing else {"score": order.input["x"]})

    assert world.run.state == ended
    assert len(names(world)) == (10 if ended == "succeeded" else failing)
    if ended == "failed":
        assert (
            f"TooManyFailed: {failing} of 10 items failed; the last: ValueError: wrong (task each[" in world.run.cause
        )


def test_when_too_many_items_have_failed_the_others_are_stopped() -> None:
    world = started(each=each([1, 2, 3]))

    decision = world.fail("each[1].fit", WRONG)

    assert [e.name for e in decision.effects if isinstance(e, CancelAttempt)] == ["each[0].fit", "each[2].fit"]
    assert world.run.tasks["each"].state == "closing"


def test_an_item_that_failed_hands_on_nothing_at_its_place() -> None:
    world = started(of("/tasks/each/output/items"), each=each([0, 1, 2], tolerate={"count": 1}))

    world.work(lambda order: WRONG if order.input["x"] == 1 else {"score": order.input["x"]})

    assert world.run.output == [0, None, 2]


@pytest.mark.parametrize(
    ("items", "key", "said"),
    [
        ({"a": 1}, None, "/trigger/data/items is dict, not a list"),
        (None, None, "there is no 'items'"),
        ([{"id": 1}, {"id": 1}], "/id", "two items have the key '1'"),
        ([{"id": 1}, {}], "/id", "there is no 'id'"),
        ([{"id": []}], "/id", "item 0 has no key at /id"),
    ],
)
def test_items_that_cannot_be_gone_over_fail_the_task(items: Any, key: str | None, said: str) -> None:
    world = made(each=each(of("/trigger/data/items"), **({"key": key} if key else {})))
    world.run = pending({"data": {} if items is None else {"items": items}})
    world.tell(Start())

    assert world.run.state is RunState.FAILED
    assert said in world.run.cause


def test_foreach_in_foreach_sees_both_items() -> None:
    inner = {
        "foreach": {
            "items": of("/item/outer/names"),
            "do": body(
                of("/tasks/say/output/said"),
                say=work(outer=of("/item/outer/id"), name=of("/item/inner"), at=of("/index/inner")),
            ),
        }
    }
    world = started(
        of("/tasks/outer/output/items"),
        outer={"foreach": {"items": [{"id": "a", "names": ["x", "y"]}, {"id": "b", "names": []}], "key": "/id",
            "do": body(of("/tasks/inner/output/items"), inner=inner)}},
    )  # fmt: skip

    world.work(lambda order: {"said": "{outer}{name}{at}".format(**order.input)})

    assert names(world) == ["outer[a].inner[0].say", "outer[a].inner[1].say"]
    assert world.run.output == [["ax0", "ay1"], []]


def test_m1_an_item_is_tried_again_by_its_tasks_own_rules_and_the_others_are_waited_for() -> None:
    fit = {**work(x=of("/item/each")), "retries": {"max_attempts": 3, "backoff_s": 60, "jitter": 0}}
    do = body(of("/tasks/fit/output/score"), fit=fit)
    world = started(of("/tasks/each/output/items"), each={"foreach": {"items": [1, 2, 3], "do": do}})
    for index in (0, 2):
        world.succeed(f"each[{index}].fit", score=index)
    for _ in range(2):
        world.fail("each[1].fit")
        world.tell(Tick(), after_s=121)
    world.succeed("each[1].fit", score=1)

    assert names(world).count("each[1].fit") == 3
    assert (world.run.state, world.run.output) == (RunState.SUCCEEDED, [0, 1, 2])


def test_m2_ten_thousand_items_are_linear_and_flat() -> None:
    world = started(each=each(list(range(10_000)), concurrency=50))
    most = 0
    while not world.run.state.ended:
        most = max(most, len(world.run.tasks))
        world.decisions.clear()
        world.orders = world.open_orders()
        world.succeed(world.orders[0].name, score=1)

    assert world.run.tasks["each"].output["succeeded"] == 10_000
    assert most <= 101


def test_a_while_goes_on_for_as_long_as_its_condition_holds() -> None:
    world = started(
        of("/tasks/train/output"),
        train={"while": {"condition": "index.train == 0 || last.train.loss > 0.5",
            "do": body(of("/tasks/step/output"), step=work(before=of("/last/train/loss", default=None)))}},
    )  # fmt: skip
    losses = iter([0.9, 0.6, 0.4])

    world.work(lambda _: {"loss": next(losses)})

    assert [order.input["before"] for order in world.orders] == [None, 0.9, 0.6]
    assert names(world) == ["train[0].step", "train[1].step", "train[2].step"]
    assert world.run.output == {"loss": 0.4}


def test_a_while_that_goes_on_too_long_fails() -> None:
    world = started(train={"while": {"condition": "true", "max_iterations": 3, "do": body(step=work())}})

    world.work()

    assert len(world.orders) == 3
    assert "TooManyIterations: goes on after 3 times" in world.run.cause


def test_a_failed_iteration_ends_the_while() -> None:
    world = started(train={"while": {"condition": "true", "do": body(step=work())}})

    world.succeed("train[0].step")
    world.fail("train[1].step", WRONG)

    assert world.run.cause == "task train failed: ValueError: wrong (task train[1].step)"


def test_a_loop_without_work_in_it_does_not_hold_up_a_decision() -> None:
    world = started(spin={"while": {"condition": "true", "max_iterations": 1_000, "do": body(
        nothing={**work(), "when": "false"})}})  # fmt: skip

    assert world.ended()["spin"] == "open"
    assert sum(1 for name in world.past if name.endswith("]")) == OPENED_AT_ONCE
    world.work()
    assert "TooManyIterations" in world.run.cause


def switch(**more: Any) -> dict[str, Any]:
    return {"needs": ["size"], "switch": {"cases": [
        {"name": "large", "when": "outputs.size.n > 10", "do": body(of("/tasks/many/output"), many=work())},
        {"name": "some", "when": "outputs.size.n > 0", "do": body(few=work())}], **more}}  # fmt: skip


@pytest.mark.parametrize(("n", "ran"), [(11, ["pick.large.many"]), (1, ["pick.some.few"]), (0, ["pick.default.none"])])
def test_a_switch_takes_the_first_case_that_applies_else_the_default(n: int, ran: list[str]) -> None:
    world = started(size=work(), pick=switch(default=body(none=work())))

    world.work(lambda _: {"n": n})

    assert names(world)[1:] == ran
    assert world.run.state is RunState.SUCCEEDED


def test_a_switch_without_a_case_that_applies_does_nothing() -> None:
    world = started(size=work(), pick=switch(), then={**work(), "needs": ["pick"]})

    world.work(lambda _: {"n": 0})

    assert names(world) == ["size", "then"]


def branches(*kinds: str, **more: Any) -> dict[str, Any]:
    return {"parallel": {"branches": {k: body(of("/tasks/go/output/by"), go=work(by=k)) for k in kinds}, **more}}


def test_a_parallel_waits_for_all_of_its_branches() -> None:
    world = started(of("/tasks/race/output"), race=branches("a", "b"))

    world.succeed("race.b.go", by="b")
    assert world.run.state is RunState.RUNNING
    world.succeed("race.a.go", by="a")

    assert world.run.output == {"a": "a", "b": "b"}


def test_with_a_quorum_the_others_are_stopped_once_it_is_met() -> None:
    world = started(of("/tasks/race/output"), race=branches("a", "b", "c", quorum=1))

    decision = world.succeed("race.b.go", by="b")

    assert [e.name for e in decision.effects if isinstance(e, CancelAttempt)] == ["race.a.go", "race.c.go"]
    world.tell(Tick(), after_s=31)
    assert (world.run.state, world.run.output) == (RunState.SUCCEEDED, {"b": "b"})


def test_a_quorum_that_can_no_longer_be_met_fails() -> None:
    world = started(race=branches("a", "b", "c", quorum=2))

    world.fail("race.a.go", WRONG)
    assert world.run.state is RunState.RUNNING
    world.fail("race.c.go", WRONG)
    world.tell(Tick(), after_s=31)

    assert "NoQuorum: 2 of 3 branches must succeed" in world.run.cause


def test_without_a_quorum_one_failure_is_the_failure() -> None:
    world = started(race=branches("a", "b"))

    world.fail("race.a.go", WRONG)

    assert world.run.cause == ""
    world.tell(Tick(), after_s=31)
    assert world.run.cause == "task race failed: ValueError: wrong (task race.a.go)"


def guarded(**more: Any) -> dict[str, Any]:
    return {"try": {"do": body(of("/tasks/risky/output"), risky=work()), **more}}


CATCH = {"errors": ["ValueError"], "do": body({"saved": True}, save=work(why=of("/error/guard/message")))}


def test_a_try_that_succeeds_hands_on_what_it_did_and_catches_nothing() -> None:
    world = started(of("/tasks/guard/output"), guard=guarded(catch=[CATCH]))

    world.work(lambda _: {"ok": 1})

    assert (names(world), world.run.output) == (["guard.do.risky"], {"ok": 1})


def test_a_failure_that_is_caught_is_put_right() -> None:
    world = started(of("/tasks/guard/output"), guard=guarded(catch=[CATCH]))

    world.fail("guard.do.risky", WRONG)
    world.work()

    assert world.order("guard.catch0.save").input == {"why": "wrong"}
    assert (world.run.state, world.run.output) == (RunState.SUCCEEDED, {"saved": True})


def test_a_failure_of_another_class_is_not_caught() -> None:
    world = started(guard=guarded(catch=[CATCH]))

    world.fail("guard.do.risky", Failure("OSError", "gone", retryable=False))

    assert world.run.cause == "task guard failed: OSError: gone (task guard.do.risky)"


def test_a_catch_may_look_at_the_failure() -> None:
    catches = [{"when": f"error.guard.message == '{said}'", "do": body(**{task: work()})} for said, task in
        [("right", "no"), ("wrong", "yes")]]  # fmt: skip
    world = started(guard=guarded(catch=catches))

    world.fail("guard.do.risky", WRONG)
    world.work()

    assert names(world) == ["guard.do.risky", "guard.catch1.yes"]


@pytest.mark.parametrize("failing", [[], ["risky"], ["risky", "save"]])
def test_what_is_done_last_is_done_however_it_ended(failing: list[str]) -> None:
    world = started(guard=guarded(catch=[CATCH], **{"finally": body(tidy=work())}))

    world.work(lambda order: WRONG if order.name.rpartition(".")[2] in failing else {})

    assert names(world)[-1] == "guard.finally.tidy"
    assert world.run.state is (RunState.FAILED if "save" in failing else RunState.SUCCEEDED)


@pytest.mark.parametrize("how", ["nothing failed", "it was caught", "it was not"])
def test_what_is_done_finally_may_read_the_error_whether_there_was_one_or_not(how: str) -> None:
    tell = work(what=of("/error/guard/error"), why=of("/error/guard/message"))
    catch = [CATCH] if how == "it was caught" else []
    world = started(guard=guarded(catch=catch, **{"finally": body(tell=tell)}))
    if how == "nothing failed":
        world.succeed("guard.do.risky")
    else:
        world.fail("guard.do.risky", WRONG)
    if how == "it was caught":
        world.succeed(names(world)[-1])

    told = {"what": WRONG.error, "why": WRONG.message} if how == "it was not" else {"what": "", "why": ""}
    assert world.order("guard.finally.tell").input == told


def test_what_is_done_last_is_done_when_the_run_is_cancelled_and_the_run_waits_for_it() -> None:
    world = started(guard=guarded(**{"finally": body(tidy=work())}), behind={**work(), "needs": ["guard"]})

    world.tell(CancelRequested("enough"))
    world.tell(Tick(), after_s=31)
    assert names(world) == ["guard.do.risky", "guard.finally.tidy"]
    assert world.run.state is RunState.ENDING
    world.succeed("guard.finally.tidy")

    assert world.run.state is RunState.CANCELLED
    assert world.ended()["guard"] == "cancelled"


def test_what_is_done_last_is_done_for_every_item_that_is_stopped() -> None:
    one = body(guard=guarded(**{"finally": body(tidy=work())}))
    world = started(each={"foreach": {"items": [0, 1, 2], "do": one}})

    world.fail("each[1].guard.do.risky", WRONG)
    world.succeed("each[1].guard.finally.tidy")
    world.tell(Tick(), after_s=31)
    world.work()

    assert Counter(name.rpartition(".")[2] for name in names(world)) == {"risky": 3, "tidy": 3}
    assert world.run.state is RunState.FAILED


def test_a_failure_of_what_is_done_last_fails_the_task() -> None:
    world = started(guard=guarded(**{"finally": body(tidy=work())}))

    world.succeed("guard.do.risky")
    world.fail("guard.finally.tidy", WRONG)

    assert world.run.cause == "task guard failed: ValueError: wrong (task guard.finally.tidy)"


def test_a_failure_within_a_body_can_be_put_right_there() -> None:
    one = body(a=work(), b={**work(), "needs": ["a"], "run_if": "settled", "when": "status.a == 'failed'"})
    world = started(x={"foreach": {"items": [1], "do": one}})

    world.fail("x[0].a", WRONG)

    assert world.open_orders()[0].name == "x[0].b"


def test_an_end_within_a_body_ends_the_run() -> None:
    world = started(
        each={"foreach": {"items": [1, 2], "do": body(look=work(), stop={"needs": ["look"],
            "when": "outputs.look.bad", "end": {"state": "refused", "reason": of("/tasks/look/output/why")}})}},
    )  # fmt: skip

    world.succeed("each[0].look", bad=True, why="drift")
    world.tell(Tick(), after_s=31)

    assert (world.run.state, world.run.cause) == (RunState.REFUSED, "drift")


def test_a_time_limit_in_all_stops_what_is_inside() -> None:
    world = started(each={**each([1, 2, 3], concurrency=1), "timeout_s": 60})

    world.succeed("each[0].fit", score=1)
    decision = world.tell(Tick(), after_s=60)

    assert [e.name for e in decision.effects if isinstance(e, CancelAttempt)] == ["each[1].fit"]
    world.tell(Tick(), after_s=31)
    assert world.run.cause == "task each failed: Timeout: not done within 60 s in all"


def test_a_time_limit_in_all_counts_every_attempt_of_a_task() -> None:
    world = started(a={"kind": "data.work", "timeout_s": 60, "retries": {"max_attempts": 9, "backoff_s": 50}})

    world.fail("a", Failure("ValueError", "no"), after_s=15)
    world.tell(Tick(), after_s=45)

    assert len(world.orders) == 1
    assert "Timeout: not done within 60 s in all" in world.run.cause


def test_a_wait_holds_nobody_and_ends_when_its_time_has_come() -> None:
    world = started(
        pause={"wait": {"for_s": 30 * 86_400}},
        until={"wait": {"until": "2026-03-29T01:30:00+01:00"}},
        then={**work(), "needs": ["pause", "until"]},
        timeout_s=200 * 86_400,
    )

    world.tell(Tick(), after_s=30 * 86_400)
    assert world.states() == {"pause": "succeeded", "until": "waiting"}
    due = world.run.tasks["until"].due_at
    assert due is not None
    assert due.isoformat() == "2026-03-29T00:30:00+00:00"
    world.tell(Tick(), after_s=(due - world.now).total_seconds())

    assert names(world) == ["then"]


@pytest.mark.parametrize(
    ("value", "said"),
    [("soon", "Invalid isoformat"), ("2026-01-01", "until is '2026-01-01', a time without its offset"), (3, "")],
)
def test_a_wait_for_what_is_no_time_fails(value: Any, said: str) -> None:
    world = started(ask=work(), pause={"needs": ["ask"], "wait": {"until": of("/tasks/ask/output/at")}})

    world.succeed("ask", at=value)

    assert world.run.state is RunState.FAILED
    assert f"InvalidWait: {said}" in world.run.cause


def test_a_wait_that_has_passed_is_waited_for_no_more() -> None:
    world = started(pause={"wait": {"until": "2020-01-01T00:00:00Z"}}, then={**work(), "needs": ["pause"]})

    assert names(world) == ["then"]
    assert world.now == T0


@pytest.mark.parametrize(("ok", "state"), [(True, RunState.RUNNING), (False, RunState.REFUSED)])
def test_a_gate_lets_the_run_go_on_or_ends_it(ok: bool, state: RunState) -> None:
    world = started(
        check=work(),
        gate={"needs": ["check"], "gate": {"condition": "outputs.check.ok", "reason": of("/tasks/check/output/why")}},
        then={**work(), "needs": ["gate"]},
    )

    decision = world.succeed("check", ok=ok, why="too late")

    assert [e.name for e in decision.effects if isinstance(e, Dispatch)] == (["then"] if ok else [])
    assert (world.run.state, world.run.cause) == (state, "" if ok else "too late")


def test_an_output_that_is_not_there_fails_what_should_hand_it_on() -> None:
    world = started(each={"foreach": {"items": [1], "do": body(of("/tasks/fit/output/score"), fit=work())}})

    world.succeed("each[0].fit")

    assert "MissingOutput: /tasks/fit/output/score: there is no 'score'" in world.run.cause


def test_a_run_whose_output_is_not_there_fails() -> None:
    world = started(of("/tasks/a/output/score"), a=work())

    world.succeed("a")

    assert (world.run.state, world.run.output) == (RunState.FAILED, None)
    assert "the workflow's output: /tasks/a/output/score: there is no 'score'" in world.run.cause


def reserved(name: str, **more: Any) -> dict[str, Any]:
    undo = {"tasks": {f"undo_{name}": work(of=of(f"/tasks/{name}/output/id"))}}
    return {**work(), "compensate": undo, **more}


def test_what_had_succeeded_is_compensated_the_latest_first_when_the_run_fails() -> None:
    world = started(
        a=reserved("a"), b=reserved("b", needs=["a"]), c=reserved("c", needs=["b"]), pay={**work(), "needs": ["c"]}
    )
    for number, name in enumerate("abc"):
        world.succeed(name, id=number, after_s=1)

    world.fail("pay", WRONG)
    world.work()

    undone = [(order.name, order.input["of"]) for order in world.orders[4:]]
    assert undone == [("c.compensate.undo_c", 2), ("b.compensate.undo_b", 1), ("a.compensate.undo_a", 0)]
    assert (world.run.state, world.run.cause) == (RunState.FAILED, "task pay failed: ValueError: wrong")


@pytest.mark.parametrize("ended", [RunState.CANCELLED, RunState.REFUSED])
def test_a_run_that_is_cancelled_or_refused_is_compensated_too(ended: RunState) -> None:
    stop = {"needs": ["look"], "when": "outputs.look.bad", "end": {"state": "refused"}}
    world = started(a=reserved("a"), look=work(), stop=stop)
    world.succeed("a", id=1)

    if ended is RunState.CANCELLED:
        world.tell(CancelRequested("enough"))
        world.tell(Tick(), after_s=31)
    else:
        world.succeed("look", bad=True)
    world.work()

    assert world.orders[-1].name == "a.compensate.undo_a"
    assert world.run.state is ended


def test_what_did_not_succeed_and_what_succeeds_in_the_end_is_not_compensated() -> None:
    world = started(a=reserved("a"), b=reserved("b", needs=["a"]))
    world.work()
    failed = started(a=reserved("a"))
    failed.fail("a", WRONG)

    assert world.run.state is RunState.SUCCEEDED
    assert len(world.orders) == 2
    assert len(failed.orders) == 1


def test_what_items_did_that_had_succeeded_is_compensated_when_the_run_fails_later() -> None:
    one = body(take=reserved("take"))
    world = started(each={"foreach": {"items": [0, 1], "do": one}}, pay={**work(), "needs": ["each"]})

    world.work(lambda order: WRONG if order.name == "pay" else {"id": order.name})

    assert sorted(names(world)[3:]) == ["each[0].take.compensate.undo_take", "each[1].take.compensate.undo_take"]


def test_only_the_item_that_failed_is_compensated_where_its_failure_is_tolerated() -> None:
    one = body(take=reserved("take"), use={**work(n=of("/item/each")), "needs": ["take"]})
    world = started(each={"foreach": {"items": [0, 1], "do": one, "tolerate": {"count": 1}}})

    world.work(lambda order: WRONG if order.input.get("n") == 1 else {"id": 1})

    assert [name for name in names(world) if "undo" in name] == ["each[1].take.compensate.undo_take"]
    assert world.run.state is RunState.SUCCEEDED


def test_a_try_compensates_what_it_did_before_it_catches() -> None:
    do = body(take=reserved("take"), use={**work(), "needs": ["take"]})
    world = started(guard={"try": {"do": do, "catch": [{"do": body(save=work())}]}})

    world.work(lambda order: WRONG if order.name == "guard.do.use" else {"id": 1})

    assert names(world)[2:] == ["guard.do.take.compensate.undo_take", "guard.catch0.save"]
    assert world.run.state is RunState.SUCCEEDED


def test_a_compensation_that_fails_is_told_and_holds_up_no_other() -> None:
    world = started(a=reserved("a"), b=reserved("b", needs=["a"]), pay={**work(), "needs": ["b"]})

    world.work(lambda order: WRONG if order.name == "pay" or "undo_b" in order.name else {"id": 1})

    assert names(world)[3:] == ["b.compensate.undo_b", "a.compensate.undo_a"]
    assert "; the compensation of b failed: ValueError: wrong" in world.run.cause


def cluster(**more: Any) -> dict[str, Any]:
    return {**work(), "teardown": {"tasks": {"stop": work(of=of("/tasks/cluster/output/id"))}}, **more}


def test_a_teardown_is_done_as_soon_as_nothing_needs_its_task_any_more() -> None:
    world = started(
        cluster=cluster(), use={**work(), "needs": ["cluster"]}, more={**work(), "needs": ["use"]}, other=work()
    )
    world.succeed("cluster", id="c1")
    world.succeed("use")
    assert "cluster.teardown.stop" not in names(world)
    world.succeed("more")

    assert world.open_orders()[-1].name == "cluster.teardown.stop"
    assert world.open_orders()[-1].input == {"of": "c1"}
    world.succeed("other")
    assert world.run.state is RunState.RUNNING, "the run waits for it"
    world.succeed("cluster.teardown.stop")
    assert world.run.state is RunState.SUCCEEDED


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_teardown_is_done_however_the_run_ends(how: str) -> None:
    world = started(cluster=cluster(), use={**work(), "needs": ["cluster"]})
    world.succeed("cluster", id="c1")

    if how == "fails":
        world.fail("use", WRONG)
    else:
        world.tell(CancelRequested("enough"))
        world.tell(Tick(), after_s=31)
    world.work()

    assert names(world)[-1] == "cluster.teardown.stop"
    assert world.run.state == ("failed" if how == "fails" else "cancelled")


def test_a_setup_that_failed_has_nothing_to_tear_down() -> None:
    world = started(cluster=cluster())

    world.fail("cluster", WRONG)

    assert names(world) == ["cluster"]
    assert world.run.state is RunState.FAILED


def test_a_teardown_that_fails_does_not_decide_how_the_run_ends() -> None:
    world = started(cluster=cluster())

    world.work(lambda order: WRONG if "teardown" in order.name else {"id": 1})

    assert world.run.state is RunState.SUCCEEDED
    assert (world.run.tasks["cluster"].inner or {})["teardown"] == "failed"


def test_what_puts_things_in_order_is_waited_for_an_hour_and_no_longer() -> None:
    world = started(guard=guarded(**{"finally": body(tidy=work())}), cluster=cluster())
    world.succeed("cluster", id="c1")
    world.tell(CancelRequested("enough"))

    world.work_nothing(until_s=3_599)
    assert world.run.state is RunState.ENDING
    world.work_nothing(until_s=3_601)

    assert world.run.state is RunState.CANCELLED
    assert set(world.ended().values()) <= {"succeeded", "cancelled"}


def test_a_list_that_is_too_long_is_refused_before_anything_is_begun() -> None:
    world = started(ask=work(), each={**each(of("/tasks/ask/output/all")), "needs": ["ask"]})

    world.succeed("ask", all=[0] * 100_001)

    assert names(world) == ["ask"]
    assert "InvalidItems: 100001 items; at most 100000 are allowed" in world.run.cause


def test_outputs_of_items_that_are_too_large_together_fail_the_task() -> None:
    world = started(each=each([0, 1, 2]))

    world.work(lambda _: {"score": "x" * 500_000})

    assert "LargeOutput: its output has 15000" in world.run.cause


def test_compensations_of_items_follow_one_another_without_a_pause() -> None:
    each = {"foreach": {"items": [0, 1, 2], "do": body(take=reserved("take"))}}
    world = started(each=each, pay={**work(), "needs": ["each"]})
    world.work(lambda order: WRONG if order.name == "pay" else {"id": order.name})

    assert len([name for name in names(world) if "undo" in name]) == 3
    assert world.now == T0, "nobody waited for anything"


def test_when_the_time_for_putting_things_in_order_is_over_nothing_more_is_begun_and_who_works_is_told() -> None:
    world = started(a=reserved("a"), b=reserved("b", needs=["a"]), pay={**work(), "needs": ["b"]})
    for name in "ab":
        world.succeed(name, id=name)
    world.fail("pay", WRONG)
    assert names(world)[-1] == "b.compensate.undo_b"

    decision = world.tell(Tick(), after_s=3_600)

    assert [e.name for e in decision.effects if isinstance(e, CancelAttempt)] == ["b.compensate.undo_b"]
    assert world.run.state is RunState.FAILED
    assert names(world)[-1] == "b.compensate.undo_b"


def test_an_end_that_succeeds_undoes_nothing() -> None:
    stop = {"needs": ["take"], "end": {"state": "succeeded"}}
    world = started(guard={"try": {"do": body(take=reserved("take"), stop=stop), "finally": body(tidy=work())}})
    world.work(lambda _: {"id": 1})

    assert names(world) == ["guard.do.take", "guard.finally.tidy"]
    assert world.run.state is RunState.SUCCEEDED


def test_a_compensation_sees_what_its_own_iteration_saw() -> None:
    undo = {"tasks": {"undo": work(at=of("/index/again"), last=of("/last/again/n", default=None))}}
    do = body({"n": of("/tasks/take/output/n")}, take={**work(), "compensate": undo})
    again = {"while": {"condition": "index.again < 2", "do": do}}
    world = started(again=again, pay={**work(), "needs": ["again"]})
    world.work(lambda order: WRONG if order.name == "pay" else {"n": order.name})

    undone = [order.input for order in world.orders if order.name.endswith("undo")]
    assert undone == [{"at": 1, "last": "again[0].take"}, {"at": 0, "last": None}]


def test_a_compensation_is_not_compensated() -> None:
    undo = {"tasks": {"undo": {**work(), "compensate": body(redo=work())}}}
    world = started(a={**work(), "compensate": undo}, pay={**work(), "needs": ["a"]})
    world.work(lambda order: WRONG if order.name == "pay" else {})

    assert names(world) == ["a", "pay", "a.compensate.undo"]


@pytest.mark.parametrize("key", ["a\nb", "", "\x00", "x" * 251, "ü" * 126])
def test_a_key_that_cannot_stand_in_a_path_is_refused(key: str) -> None:
    world = started(each=each([{"id": key}], key="/id"))

    assert "InvalidItems: item 0 has no key at /id: a printable text or a number" in world.run.cause


def test_very_many_losses_wait_no_longer_than_is_said() -> None:
    world = started(a={"kind": "data.work", "retries": {"lost": 1_000, "factor": 10, "max_backoff_s": 1, "jitter": 0}})
    for _ in range(400):
        world.fail("a", Failure("lost", "", lost=True))
        world.tell(Tick(), after_s=1)

    assert len(world.orders) == 401


def test_a_cause_has_an_end() -> None:
    world = started(a={"end": {"state": "refused", "reason": "x" * 10_000}})

    assert len(world.run.cause) == 2_000


def test_what_is_handed_on_by_a_run_has_a_limit() -> None:
    world = started({"a": of("/tasks/a/output"), "b": of("/tasks/a/output")}, a=work())

    world.succeed("a", x="x" * 600_000)

    assert (world.run.state, world.run.output) == (RunState.FAILED, None)
    assert "the workflow's output: it has 1200" in world.run.cause


def test_a_run_that_was_started_ends_well_though_it_was_to_stop() -> None:
    sub = {"subflow": {"workflow": "other"}, "compensate": body(undo=work())}
    world = started(sub=sub, pay=work())
    task = world.run.tasks["sub"]
    world.fail("pay", WRONG)
    assert world.run.tasks["sub"].state == "closing"

    world.tell(ChildEnded("sub", task.task_id, RunState.SUCCEEDED, "", {"n": 1}))
    world.work()

    assert names(world) == ["pay", "sub.compensate.undo"]
