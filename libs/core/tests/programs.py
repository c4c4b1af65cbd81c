"""Workflows made up from choices: whoever picks decides, a seed, a list of numbers or hypothesis."""

from collections.abc import Callable, Sequence
from typing import Any

#: What keeps work from being chained to what it needs; `plans` only what needs it.
UNCHAINED = ("cache", "pool", "weight", "priority", "fairness_key")
Pick = Callable[[Sequence[Any]], Any]
"""Returns one of some options; the first is the simplest."""


def document(pick: Pick) -> dict[str, Any]:
    """A DAG of up to seven tasks with conditions, ends, retries, short limits, and bodies in one another."""
    return {"name": "w", "timeout_s": pick([300, 20]), "tasks": tasks(pick, "t", most=7, depth=2), **deadline(pick)}


def tasks(pick: Pick, prefix: str, most: int, depth: int, *, ends: bool = True) -> dict[str, Any]:
    """Tasks of a workflow or a body; those with bodies only while there is depth left.

    Args:
        pick: Who chooses.
        prefix: What their names begin with.
        most: How many there are at most.
        depth: How deep bodies may lie in them.
        ends: Whether they may end the run.
    """
    made: dict[str, Any] = {}
    for number in range(pick(range(1, most + 1))):
        needs = [name for name in list(made)[-3:] if pick([False, True])]
        task: dict[str, Any] = {"needs": needs, "run_if": pick(["succeeded", "succeeded", "settled"])}
        if needs and pick([False, True]):
            task["when"] = pick(_conditions(needs[0]))
        form = pick(["work", "work", "bodies", "wait", "signal", "approve", "gate", "end", "subflow"])
        if form == "end" and number and ends:
            task["end"] = {"state": pick(["succeeded", "refused", "failed"]), "reason": "so"}
        elif form == "bodies" and depth:
            task |= with_bodies(pick, f"{prefix}{number}", depth - 1, ends=ends)
        elif form == "wait" and number:
            task["wait"] = {"for_s": pick([0, 1, 30])}
        elif form in {"signal", "approve", "subflow"}:
            task |= waiting(pick, form, ends=ends)
        elif form == "gate" and needs and ends:
            task["gate"] = {"condition": pick(_conditions(needs[0]))}
        else:
            task |= work(pick, needs)
        task |= around(pick, f"{prefix}{number}", depth, task)
        made[f"{prefix}{number}"] = task
        if "kind" in task and pick([False, True]):
            made |= chained(pick, f"{prefix}{number}")
    return made


def waiting(pick: Pick, form: str, *, ends: bool) -> dict[str, Any]:
    """What waits half a minute for a signal, an event, people, or a run of another workflow."""
    limit = {"timeout_s": 30}
    if form == "signal":
        event = {"event": "jobs", "key": pick(["j", {"$from": "/run/id"}])}
        return {"wait": pick([{"signal": "go"}, event]), **limit}
    if form == "subflow":
        return {"subflow": {"workflow": "other", "on_stop": pick(["cancel", "abandon"])}, **limit}
    asked = {"need": pick([1, 2]), "rejected": pick(["go_on", "failed", *(["refused"] if ends else [])])}
    expired = pick(["approve", "failed", "go_on", *(["refused"] if ends else [])])
    return {"approve": asked | {"expired": expired}, **limit}


def chained(pick: Pick, name: str) -> dict[str, Any]:
    """Work that is chained to a task, each after the one before it, where nothing else needs that."""
    made: dict[str, Any] = {}
    for number in range(pick([1, 2, 3])):
        before = [name, *made]
        own = {"x": {"$from": f"/tasks/{pick(before[-2:])}/output/x"}} if pick([True, False]) else {}
        plain = {key: value for key, value in work(pick, ()).items() if key not in UNCHAINED}
        made[f"{name}n{number}"] = plain | {"needs": before[-1:], "input": own}
    return made


def around(pick: Pick, name: str, depth: int, task: dict[str, Any]) -> dict[str, Any]:
    """What any task may have, as far as this one may."""
    more = aftercare(pick, name, depth - 1) if "end" not in task and "cache" not in task and depth else {}
    return more if "end" in task or "gate" in task else more | deadline(pick)


def deadline(pick: Pick) -> dict[str, Any]:
    """When a task or the run is to be done, seldom."""
    if not pick([False, False, False, False, True]):
        return {}
    return {"deadline": {"after_s": pick([40, 3]), "action": pick(["notify", "fail", "cancel"])}}


def aftercare(pick: Pick, name: str, depth: int) -> dict[str, Any]:
    """What follows a task that has succeeded, seldom."""
    made = {}
    for what in ("compensate", "teardown"):
        if pick([False, False, False, False, True]):
            made[what] = {"tasks": tasks(pick, f"{name}{what[0]}", most=2, depth=depth, ends=False)}
    return made


def _conditions(name: str) -> list[str]:
    return [
        f"outputs.{name}.ok",
        f"status.{name} == 'succeeded'",
        f"status.{name} != 'succeeded' || !outputs.{name}.ok",
    ]


def work(pick: Pick, needs: Sequence[str]) -> dict[str, Any]:
    """Work with few attempts and short limits."""
    own = {"x": {"$from": f"/tasks/{needs[0]}/output/x"}} if needs and pick([False, True]) else {}
    more = pick([{}, {}, {"plans": True}, {"cache": {}}, {"cache": {}}, {"cache": {"version": "2", "expires_s": 10}}])
    return {
        "kind": "data.ingest",
        "input": {} if "cache" in more else own,
        "retries": {"max_attempts": pick([1, 2, 3]), "lost": pick([0, 1, 2]), "backoff_s": pick([0, 1, 20])},
        "queue_timeout_s": pick([50, 5]),
        "run_timeout_s": pick([50, 5]),
        "heartbeat_timeout_s": pick([20, 2]),
        **({"timeout_s": 30} if pick([False, False, False, False, True]) else {}),
        **(slots(pick) if pick([False, False, True]) else {}),
        **more,
        **({"start_timeout_s": 3} if pick([False, False, False, True]) else {}),
    }


def slots(pick: Pick) -> dict[str, Any]:
    """What work takes that takes slots."""
    turn = {"priority": pick([0, 1]), "fairness_key": pick(["", "a"])}
    return {"pool": pick(["p", "q"]), "weight": pick([1, 2]), **turn}


def with_bodies(pick: Pick, name: str, depth: int, *, ends: bool) -> dict[str, Any]:
    """What a task with bodies does; the names in those begin with its own."""

    def body(place: str, *, ending: bool = ends) -> dict[str, Any]:
        inner = tasks(pick, f"{name}{place}", most=2, depth=depth, ends=ending)
        first = {"$from": f"/tasks/{name}{place}0/output", "default": {}}
        output = pick([None, {"ok": True}, first])
        return {"tasks": inner} | ({"output": output} if output is not None else {})

    limit = {"timeout_s": 40} if pick([False, False, False, True]) else {}
    match pick(["foreach", "while", "switch", "parallel", "try"]):
        case "foreach":
            items, tolerate = list(range(pick(range(5)))), {"count": pick([0, 1, 2])}
            each = {"items": items, "concurrency": pick([1, 2, 3]), "tolerate": tolerate, "do": body("e")}
            return {"foreach": each, **limit}
        case "while":
            condition = pick([f"index.{name} < 2", "true", "false"])
            return {"while": {"condition": condition, "max_iterations": 3, "do": body("w")}, **limit}
        case "switch":
            cases = [{"name": "one", "when": pick(["true", "false"]), "do": body("o")}]
            return {"switch": {"cases": cases, **({"default": body("d")} if pick([False, True]) else {})}, **limit}
        case "parallel":
            quorum = pick([None, 1, 2])
            return {"parallel": {"branches": {"a": body("a"), "b": body("b")}, "quorum": quorum}, **limit}
    catch = [{"errors": pick([[], ["E"], ["F"]]), "do": body("c")}]
    last = {"finally": body("f", ending=False)} if pick([False, True]) else {}
    return {"try": {"do": body("r"), "catch": catch, **last}, **limit}
