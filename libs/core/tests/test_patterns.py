"""The control-flow patterns of van der Aalst, ter Hofstede, Russell et al. (workflowpatterns.com): one program each.

docs/patterns.md says of all 43 which are direct, partial or none, and why; it names these tests.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from lines import Lines
from millrace.core.state import (
    Admitted,
    AskSlots,
    CancelAttempt,
    CancelRequested,
    FreeSlots,
    RunState,
    Signalled,
    Start,
    StartChild,
    Tick,
)
from simulation import World, started, world

PAGE = (Path(__file__).resolve().parents[3] / "docs/patterns.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| ([^|]+) \| (direct|partial|none) \| ([^|]+) \|$", PAGE, re.MULTILINE)


def work(*needs: str, **more: Any) -> dict[str, Any]:
    return {"kind": "data.work", "needs": [*needs], "retries": {"max_attempts": 1}, **more}


def order(world: World) -> list[str]:
    return [one.name for one in world.orders]


def body(**tasks: Any) -> dict[str, Any]:
    return {"tasks": tasks}


def stopped(world: World) -> list[str]:
    effects = [effect for decision in world.decisions for effect in decision.effects]
    return [effect.name for effect in effects if isinstance(effect, CancelAttempt)]


def test_wcp_01_sequence() -> None:
    world = started(a=work(), b=work("a"))
    world.work()

    assert order(world) == ["a", "b"]


def test_wcp_02_parallel_split() -> None:
    world = started(a=work(), b=work("a"), c=work("a"))
    world.succeed("a")

    assert [one.name for one in world.open_orders()] == ["b", "c"]


def test_wcp_03_synchronization() -> None:
    world = started(b=work(), c=work(), d=work("b", "c"))
    world.succeed("b")
    assert "d" not in order(world)
    world.succeed("c")

    assert order(world)[-1] == "d"


def choose(**outputs: Any) -> World:
    cases = [
        {"name": "large", "when": "outputs.a.n > 10", "do": body(b=work())},
        {"name": "small", "when": "outputs.a.n <= 10", "do": body(c=work())},
    ]
    world = started(a=work(), pick={"needs": ["a"], "switch": {"cases": cases}}, d=work("pick"))
    world.succeed("a", **outputs)
    world.work()
    return world


def test_wcp_04_exclusive_choice() -> None:
    assert order(choose(n=11))[1] == "pick.large.b"
    assert order(choose(n=1))[1] == "pick.small.c"


def test_wcp_05_simple_merge() -> None:
    assert order(choose(n=11))[2:] == order(choose(n=1))[2:] == ["d"]


def several(b: bool, c: bool) -> World:
    world = started(
        a=work(),
        b=work("a", when="outputs.a.b"),
        c=work("a", when="outputs.a.c"),
        d=work("b", "c", run_if="settled"),
    )
    world.succeed("a", b=b, c=c)
    world.work()
    return world


@pytest.mark.parametrize(("b", "c", "ran"), [(True, True, ["b", "c"]), (True, False, ["b"]), (False, False, [])])
def test_wcp_06_multi_choice(b: bool, c: bool, ran: list[str]) -> None:
    assert order(several(b, c))[1:-1] == ran


@pytest.mark.parametrize(("b", "c"), [(True, True), (False, True), (False, False)])
def test_wcp_07_structured_synchronizing_merge(b: bool, c: bool) -> None:
    assert order(several(b, c))[-1] == "d"
    assert order(several(b, c)).count("d") == 1


def test_wcp_08_multi_merge_by_writing_what_follows_into_each_branch() -> None:
    world = started(
        split={"parallel": {"branches": {"x": body(b=work(), d=work("b")), "y": body(c=work(), e=work("c"))}}}
    )
    world.succeed("split.x.b")
    assert order(world)[-1] == "split.x.d", "it does not wait for the other"
    world.succeed("split.y.c")

    assert order(world)[-1] == "split.y.e"


def test_wcp_11_implicit_termination() -> None:
    world = started(a=work(), b=work())
    world.succeed("a")
    assert world.run.state is RunState.RUNNING
    world.succeed("b")

    assert world.run.state is RunState.SUCCEEDED


def test_wcp_12_instances_without_synchronization_as_runs_that_go_on_by_themselves() -> None:
    sub = {"subflow": {"workflow": "other", "data": {"$from": "/item/each"}, "on_stop": "abandon"}}
    world = started(each={"foreach": {"items": [1, 2], "do": body(start=sub)}})
    world.tell(CancelRequested("enough"))

    effects = [effect for decision in world.decisions for effect in decision.effects]
    assert [effect.data for effect in effects if isinstance(effect, StartChild)] == [1, 2]
    assert world.run.state is RunState.CANCELLED
    assert stopped(world) == []


def test_wcp_13_instances_known_when_it_is_written() -> None:
    world = started(each={"foreach": {"items": ["a", "b"], "do": body(b=work())}}, c=work("each"))
    world.work()

    assert order(world) == ["each[0].b", "each[1].b", "c"]


def test_wcp_14_instances_known_before_the_first_begins() -> None:
    items = {"$from": "/tasks/a/output/all"}
    world = started(a=work(), each={"needs": ["a"], "foreach": {"items": items, "do": body(b=work())}}, c=work("each"))
    world.succeed("a", all=[1, 2, 3])
    world.work()

    assert order(world)[1:] == ["each[0].b", "each[1].b", "each[2].b", "c"]


def test_wcp_15_instances_that_become_known_one_after_another() -> None:
    condition = "index.more == 0 || last.more.another"
    do = {"tasks": {"b": work()}, "output": {"$from": "/tasks/b/output"}}
    world = started(more={"while": {"condition": condition, "do": do}})
    for another in (True, True, False):
        world.succeed(world.open_orders()[0].name, another=another)

    assert order(world) == ["more[0].b", "more[1].b", "more[2].b"]
    assert world.run.state is RunState.SUCCEEDED


def test_wcp_16_deferred_choice() -> None:
    race = {name: body(**{f"got_{name}": {"wait": {"signal": name}}}) for name in "xy"}
    world = started(
        first={"parallel": {"branches": {n: one | {"output": True} for n, one in race.items()}, "quorum": 1}},
        x=work("first", when="has(outputs.first.x)"),
        y=work("first", when="has(outputs.first.y)"),
    )
    world.tell(Signalled("y", {}))

    assert order(world) == ["y"]


def test_wcp_17_interleaved_parallel_routing_in_the_order_of_a_list() -> None:
    steps = ["b", "c", "d"]
    do = body(do={"kind": "data.work", "input": {"what": {"$from": "/item/each"}}})
    world = started(each={"foreach": {"items": steps, "concurrency": 1, "do": do}})
    most = 0
    while not world.run.state.ended:
        most = max(most, len(world.open_orders()))
        world.succeed(world.open_orders()[0].name)

    assert most == 1
    assert [one.input["what"] for one in world.orders] == steps


def test_wcp_19_cancel_activity_by_its_time() -> None:
    world = started(a=work(timeout_s=10), b=work("a", run_if="settled"))
    world.tell(Tick(), after_s=10)

    assert stopped(world) == ["a"]
    assert order(world)[-1] == "b"


def test_wcp_20_cancel_case() -> None:
    world = started(a=work(), b=work())
    world.tell(CancelRequested("enough"))
    world.tell(Tick(), after_s=31)

    assert stopped(world) == ["a", "b"]
    assert world.run.state is RunState.CANCELLED


def test_wcp_21_structured_loop() -> None:
    world = started(again={"while": {"condition": "index.again < 3", "do": body(b=work())}})
    world.work()

    assert order(world) == ["again[0].b", "again[1].b", "again[2].b"]


def test_wcp_22_recursion() -> None:
    world = started(a=work(), again={"needs": ["a"], "when": "outputs.a.more", "subflow": {"workflow": "w"}})
    decision = world.succeed("a", more=True)

    assert [effect.workflow for effect in decision.effects if isinstance(effect, StartChild)] == ["w"]


def test_wcp_24_persistent_trigger() -> None:
    world = started(a=work(), b={"needs": ["a"], "wait": {"signal": "go"}}, c=work("b"))
    world.tell(Signalled("go", {}))
    world.succeed("a")

    assert order(world)[-1] == "c"


def test_wcp_25_cancel_region() -> None:
    region = body(b=work(), c=work(), stop=work("b", when="outputs.b.stop"))
    world = started(region={"try": {"do": region, "catch": [{"do": body(d=work())}]}}, other=work())
    world.fail("region.do.b")

    assert stopped(world) == ["region.do.c"]
    assert world.states()["other"] == "dispatched"


def each(**more: Any) -> dict[str, Any]:
    return {"foreach": {"items": [1, 2, 3], "do": body(b=work())}, **more}


def test_wcp_26_cancel_multiple_instances() -> None:
    world = started(each=each(timeout_s=10), c=work("each", run_if="settled"))
    world.tell(Tick(), after_s=10)
    world.tell(Tick(), after_s=31)

    assert stopped(world) == ["each[0].b", "each[1].b", "each[2].b"]
    assert order(world)[-1] == "c"


@pytest.mark.parametrize("quorum", [1, 2])
def test_wcp_29_and_32_cancelling_discriminator_and_partial_join(quorum: int) -> None:
    race = {"parallel": {"branches": {name: body(**{f"go_{name}": work()}) for name in "xyz"}, "quorum": quorum}}
    world = started(race=race, then=work("race"))
    for name in "xyz"[:quorum]:
        world.succeed(f"race.{name}.go_{name}")

    assert stopped(world) == [f"race.{name}.go_{name}" for name in "xyz"[quorum:]]
    world.tell(Tick(), after_s=31)
    assert order(world)[-1] == "then"


def test_wcp_34_static_partial_join_of_instances_once_all_have_ended() -> None:
    foreach = {"items": [1, 2, 3], "do": body(b=work()), "tolerate": {"count": 1}}
    world = started(each={"foreach": foreach}, c=work("each"))
    world.fail("each[0].b")
    world.succeed("each[1].b")
    assert "c" not in order(world)
    world.succeed("each[2].b")

    assert order(world)[-1] == "c"


def test_wcp_37_acyclic_synchronizing_merge() -> None:
    world = started(
        a=work(), b=work("a", when="outputs.a.b"), c=work("b"), d=work("a"), e=work("c", "d", run_if="settled")
    )
    world.succeed("a", b=False)
    assert "e" not in order(world)
    world.succeed("d")

    assert order(world)[-1] == "e"


def test_wcp_38_general_synchronizing_merge_within_a_loop() -> None:
    do = body(
        a=work(), b=work("a", when="outputs.a.b"), c=work("a", when="!outputs.a.b"), d=work("b", "c", run_if="settled")
    )
    world = started(again={"while": {"condition": "index.again < 2", "do": do}})
    world.work(lambda one: {"b": one.name.startswith("again[0]")})

    ran = [name.rpartition(".")[2] for name in order(world)]
    assert ran == ["a", "b", "d", "a", "c", "d"]


def test_wcp_39_critical_section_of_one_task_each() -> None:
    made, line = world(a=work(pool="press"), b=work(pool="press")), Lines({"press": 1})
    made.slots = False
    made.tell(Start())
    asked = {effect.ticket: effect for effect in made.decisions[-1].effects if isinstance(effect, AskSlots)}
    for one in asked.values():
        line.ask(one)
    seen = []
    while granted := line.let_in(made.now).grants:
        for grant in granted:
            made.tell(Admitted(asked[grant.ticket].name, grant.ticket))
        (at_work,) = made.open_orders()
        seen.append(at_work.name)
        for effect in made.succeed(at_work.name).effects:
            if isinstance(effect, FreeSlots):
                line.free(effect.ticket)

    assert seen == ["a", "b"]
    assert made.run.state is RunState.SUCCEEDED


def test_wcp_40_interleaved_routing() -> None:
    test_wcp_17_interleaved_parallel_routing_in_the_order_of_a_list()


def test_wcp_43_explicit_termination() -> None:
    world = started(a=work(), stop={"needs": ["a"], "end": {"state": "succeeded"}}, b=work())
    world.succeed("a")
    world.tell(Tick(), after_s=31)

    assert stopped(world) == ["b"]
    assert world.run.state is RunState.SUCCEEDED


def test_the_page_has_all_43_and_names_a_test_of_each_that_can_be_written() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 44))
    tests = {
        int(n) for name in globals() for n in re.findall(r"(?<=_)(\d\d)(?=_)", name) if name.startswith("test_wcp_")
    }
    assert {int(number) for number, _, how, _ in ROWS if how != "none"} == tests
