"""Programs as workflows."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from tests.programs.program import (
    TAKEN,
    TIDIED,
    Add,
    Attempt,
    Body,
    Branches,
    Call,
    Cancel,
    Choose,
    Command,
    Each,
    End,
    Fail,
    Guard,
    Mended,
    Once,
    Planned,
    Program,
    Race,
    Repeat,
    Signal,
    Together,
    Wait,
)

#: Whose slots some adds take.
POOL = "slots"
#: What somebody counts who has mended what was broken.
MENDED = "mended"
#: The signal at which a program is cancelled.
NEVER = "never"
#: Who does what the previous build knows.
PLAIN = "data"
#: A worker that is silent for so long is lost; the least that control takes.
SILENT_S = 15
ALWAYS = 1_000
_TRIGGER = {"$from": "/trigger/data/program"}

Tasks = dict[str, dict[str, Any]]


def workflows(program: Program, name: str) -> list[dict[str, Any]]:
    """Return the documents of a program: those that it calls, and last its own, of this name."""
    written = _Written(name, plain=program.plain)
    own = {"name": name, "timeout_s": 1_800, "tasks": written.body(program.commands)}
    return [*written.called, own]


class _Written:
    """The tasks of a program in the making.

    Attributes:
        called: Documents of workflows that it calls.
    """

    def __init__(self, name: str, *, plain: bool) -> None:
        self.called: list[dict[str, Any]] = []
        self._name = name
        self._plain = plain
        self._numbers = itertools.count(1)

    def body(self, commands: Body) -> Tasks:
        """Return the tasks of commands one after the other."""
        tasks: Tasks = {}
        needs: Sequence[str] = ()
        for command in commands:
            needs = self._write(command, tasks, needs)
        return tasks

    def _write(self, command: Command, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        """Write a command's tasks; return those that what follows needs."""
        written: Sequence[str] = getattr(self, f"_{type(command).__name__.lower()}")(command, tasks, needs)
        return written

    def _put(self, tasks: Tasks, needs: Sequence[str], **task: Any) -> str:
        name = f"t{next(self._numbers)}"
        tasks[name] = {"needs": list(needs), **task}
        return name

    # What each command is, by its name.

    def _add(self, add: Add, tasks: Tasks, needs: Sequence[str], **more: Any) -> Sequence[str]:
        work = self._work(add.counter, add.amount, add.queue, fails=add.fails, late=add.late, takes_s=add.takes_s)
        if add.slot:
            work |= {"pool": POOL}
        if add.undo:
            work["compensate"] = {"tasks": self.body((Add(add.counter, -add.amount),))}
        if add.tidy:
            work["teardown"] = {"tasks": self.body((Add(TIDIED, 1),))}
        return [self._put(tasks, needs, **work, **more)]

    def _fail(self, fail: Fail, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        work = self._work(fail.counter, fail.amount, fails=ALWAYS, late=fail.late)
        work["retries"]["max_attempts"] = 2
        failing = self._put(tasks, needs, **work)
        return [self._look(fail.counter, tasks, [failing], run_if="settled")] if fail.recovered else [failing]

    def _once(self, once: Once, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        return [self._put(tasks, needs, **self._work(once.counter, once.amount), cache={})]

    def _together(self, together: Together, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        return [name for add in together.adds for name in self._add(add, tasks, needs)]

    def _guard(self, guard: Guard, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        look = self._look(guard.add.counter, tasks, needs)
        (guarded,) = self._add(guard.add, tasks, [look], when=f"outputs.{look}.value >= {guard.least}")
        return [self._look(guard.add.counter, tasks, [look, guarded], run_if="settled")]

    def _end(self, end: End, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        look = self._look(end.counter, tasks, needs)
        how = {"state": end.state, "reason": "as the program says"}
        ending = self._put(tasks, [look], when=f"outputs.{look}.value >= {end.least}", end=how)
        return [self._look(end.counter, tasks, [look, ending], run_if="settled")]

    def _choose(self, choose: Choose, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        look = self._look(choose.counter, tasks, needs)
        case = {"name": "enough", "when": f"outputs.{look}.value >= {choose.least}"}
        switch = {"cases": [case | {"do": {"tasks": self.body(choose.enough)}}]}
        if choose.otherwise:
            switch["default"] = {"tasks": self.body(choose.otherwise)}
        return [self._put(tasks, [look], switch=switch)]

    def _each(self, each: Each, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        items: Any = each.amounts
        if items is None:
            needs = [self._look(each.counter, tasks, needs)]
            items = {"$from": f"/tasks/{needs[0]}/output/items"}
        name = f"t{next(self._numbers)}"
        inner: Tasks = {}
        add = self._work(each.counter, {"$from": f"/item/{name}"})
        last: Sequence[str] = [self._put(inner, (), **add)]
        for command in each.body:
            last = self._write(command, inner, last)
        tolerated = {"percent": 100}
        foreach = {"items": items, "concurrency": each.concurrency, "tolerate": tolerated, "do": {"tasks": inner}}
        tasks[name] = {"needs": list(needs), "foreach": foreach}
        return [name]

    def _repeat(self, repeat: Repeat, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        name, inner = f"t{next(self._numbers)}", Tasks()
        add = self._put(inner, (), **self._work(repeat.counter, repeat.amount))
        condition = f"index.{name} == 0 || last.{name}.value < {repeat.least}"
        do = {"tasks": inner, "output": {"$from": f"/tasks/{add}/output"}}
        loop = {"condition": condition, "max_iterations": repeat.most, "do": do}
        tasks[name] = {"needs": list(needs), "while": loop}
        return [name]

    def _branches(self, branches: Branches, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        written = {f"b{n}": {"tasks": self.body(body)} for n, body in enumerate(branches.bodies)}
        return [self._put(tasks, needs, parallel={"branches": written})]

    def _race(self, race: Race, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        idle: Tasks = {}
        waits = self._put(idle, (), wait={"signal": "nobody"})
        self._add(Add("never", 1), idle, [waits])
        branches = {"ends": {"tasks": self.body(race.body)}, "idle": {"tasks": idle}}
        return [self._put(tasks, needs, parallel={"branches": branches, "quorum": 1})]

    def _attempt(self, attempt: Attempt, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        catch = {"errors": [] if attempt.catches else ["Other"], "do": {"tasks": self.body(attempt.catch)}}
        what = {"do": {"tasks": self.body(attempt.do)}, "catch": [catch]}
        if attempt.last:
            what["finally"] = {"tasks": self.body(attempt.last)}
        return [self._put(tasks, needs, **{"try": what})]

    def _call(self, call: Call, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        name = f"{self._name}.{next(self._numbers)}"
        inner = self.body(call.body)
        self.called.append({"name": name, "timeout_s": 1_800, "tasks": inner})
        return [self._put(tasks, needs, subflow={"workflow": name, "data": {"program": _TRIGGER}})]

    def _planned(self, planned: Planned, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        # As text: in an input, what it refers to would be filled in before it is planned.
        plan = json.dumps({"$plan": {"tasks": self.body(planned.body)}})
        return [self._put(tasks, needs, kind=f"{TAKEN}.plan", plans=True, input={"plan": plan}, **_patience())]

    def _signal(self, signal: Signal, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        waits = self._put(tasks, needs, wait={"signal": signal.name})
        amount = {"$from": f"/tasks/{waits}/output/amount"}
        return [self._put(tasks, [waits], **self._work(signal.counter, amount))]

    def _wait(self, wait: Wait, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        return [self._put(tasks, needs, wait={"for_s": wait.for_s})]

    def _cancel(self, _: Cancel, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        tasks[NEVER] = {"needs": list(needs), "wait": {"signal": NEVER}}
        return [NEVER]

    def _mended(self, mended: Mended, tasks: Tasks, needs: Sequence[str]) -> Sequence[str]:
        work = self._work(mended.counter, mended.amount, until=MENDED)
        work["retries"]["max_attempts"] = 2
        return [self._put(tasks, needs, **work)]

    def _look(self, counter: str, tasks: Tasks, needs: Sequence[str], **more: Any) -> str:
        """Add nothing, so as to be told what a counter has come to."""
        return self._put(tasks, needs, **self._work(counter, 0), **more)

    def _work(self, counter: str, amount: Any, queue: str = TAKEN, **more: Any) -> dict[str, Any]:
        kind = f"{PLAIN if self._plain else queue}.add"
        given = {name: value for name, value in more.items() if value}
        return {
            "kind": kind,
            "input": {"program": _TRIGGER, "counter": counter, "amount": amount, **given},
            **_patience(),
        }


def _patience() -> dict[str, Any]:
    retries = {"max_attempts": 4, "backoff_s": 0.1, "max_backoff_s": 1, "lost": 1_000}
    return {"retries": retries, "heartbeat_timeout_s": SILENT_S, "queue_timeout_s": 20}
