"""A program played on the real stack, with all that somebody outside has to do for it."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.errors import Conflict, Denied, InvalidInput, MillraceError, NotFound
from millrace.sdk.client import ENDED

from tests.faults.effects import Effect, add
from tests.faults.stack import Stack
from tests.journeys.shop import shown
from tests.programs.crew import NAMESPACE
from tests.programs.made import of_seed
from tests.programs.model import Outcome, predict
from tests.programs.program import Cancel, Mended, Program, Signal
from tests.programs.written import MENDED, NEVER, workflows

#: How long a program may take, whatever is done to those who run it; one that is open then has diverged.
PATIENCE_S = 240.0
ANSWER_S = 10.0
LOOKS_EVERY_S = 0.2
PAUSED_S = 1.0
REFUSED = (Conflict, Denied, InvalidInput, NotFound)


@dataclass
class Played:
    """A program that was played.

    Attributes:
        name: What its counters begin with.
        states: How its runs ended.
        runs: Them, as control shows them.
        why: Why it was given up, where it was.
    """

    seed: int
    program: Program
    name: str
    states: list[str] = field(default_factory=list)
    runs: list[pb.Run] = field(default_factory=list)
    why: str = ""

    def divergence(self, counters: Mapping[str, int]) -> str:
        """Return what another end than the model's is, as people read it; empty where it is the model's."""
        expected = predict(self.program)
        found = expected.differences(Outcome(tuple(self.states), counters))
        if not found:
            return ""
        told = [f"seed {self.seed} diverges from the model: make verify PROGRAMS=1 SEED={self.seed}", *found]
        told += [self.why] if self.why else []
        told += [self.program.text(), f"expected: {expected}", f"came: {tuple(self.states)} {dict(counters)}"]
        return "\n".join([*told, *(f"run {run.run_id} {shown(run)}" for run in self.runs)])


class Player:
    """Plays programs through control's public door.

    Args:
        stack: Where.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._control: Any = ControlServiceStub(stack.channel("control"))

    async def play(self, seed: int, *, plain: bool = False) -> Played:
        """Play the program of a seed to its end, or until nobody would wait any longer."""
        played = Played(seed, of_seed(seed, plain=plain), f"p{seed}-{uuid4().hex[:8]}")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._play(played)
        except TimeoutError:
            played.states.append("open")
            played.why = f"it was not over within {PATIENCE_S:g} s"
        except REFUSED as error:
            played.states.append("refused by control")
            played.why = f"{type(error).__name__}: {error}"
        return played

    async def _play(self, played: Played) -> None:
        documents = workflows(played.program, f"programs.{played.name}")
        for document in documents:
            await self._ask("ApplyWorkflow", pb.ApplyWorkflowRequest(**_own(), workflow=json.dumps(document)))
        data = json.dumps({"program": played.name})
        asked = pb.StartRunRequest(**_own(), workflow=documents[-1]["name"], data_json=data)
        for _ in range(2):  # under the same id it is the same run
            run = (await self._ask("StartRun", asked)).run
        await self._to_its_end(played, run)
        if played.program.has(Mended) and played.states == ["failed"]:
            await asyncio.to_thread(add, self._stack.effects.url, played.name, f"{played.name}.{MENDED}", "driver", 1)
            again = pb.RerunRunRequest(**_own(), run_id=run.run_id, version="pinned")
            await self._to_its_end(played, (await self._ask("RerunRun", again)).run)

    async def _to_its_end(self, played: Played, run: pb.Run) -> None:
        await self._tell(played.program, run.run_id)
        while run.state not in ENDED:
            if played.program.has(Cancel) and any(t.name == NEVER and t.state == "waiting" for t in run.tasks):
                await self._unless_over("CancelRun", pb.CancelRunRequest(**_own(), run_id=run.run_id))
            await asyncio.sleep(LOOKS_EVERY_S)
            run = (await self._ask("GetRun", pb.GetRunRequest(namespace=NAMESPACE, run_id=run.run_id))).run
        played.states.append(run.state)
        played.runs.append(run)

    async def _tell(self, program: Program, run_id: str) -> None:
        """Send a run the signals that it may wait for, now or later, and pause it for a moment where that is asked."""
        for command in program.every:
            if isinstance(command, Signal):
                data = json.dumps({"amount": command.amount})
                told = pb.SignalRunRequest(**_own(), run_id=run_id, signal=command.name, data_json=data)
                await self._unless_over("SignalRun", told)
        if program.paused:
            await self._unless_over("PauseRun", pb.PauseRunRequest(**_own(), run_id=run_id))
            await asyncio.sleep(PAUSED_S)
            await self._unless_over("ResumeRun", pb.ResumeRunRequest(**_own(), run_id=run_id))

    async def _unless_over(self, name: str, request: Any) -> None:
        """Ask for what only a run that goes on can do."""
        try:
            await self._ask(name, request)
        except Conflict:
            asked = pb.GetRunRequest(namespace=NAMESPACE, run_id=request.run_id)
            if (await self._ask("GetRun", asked)).run.state == "running":
                raise

    async def _ask(self, name: str, request: Any) -> Any:
        """Return an answer; a control that does not answer is asked again, for the same."""
        ask: Callable[..., Awaitable[Any]] = getattr(self._control, name)
        while True:
            try:
                return await ask(request, timeout=ANSWER_S)
            except REFUSED:
                raise
            except (MillraceError, OSError):
                await asyncio.sleep(LOOKS_EVERY_S)


def counters_of(effects: Iterable[Effect]) -> dict[str, dict[str, int]]:
    """Return what the counters of each program have come to, by its name; those that are not 0."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for effect in effects:
        name, _, counter = effect.event.partition(".")
        if counter != MENDED:
            found[name][counter] += effect.amount
    return {name: {key: n for key, n in sorted(own.items()) if n} for name, own in found.items()}


def _own() -> dict[str, str]:
    return {"namespace": NAMESPACE, "request_id": str(uuid4())}
