"""Runs of flows under test."""

import heapq
import itertools
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from millrace.core.paths import written
from millrace.core.plan import Plan
from millrace.core.state import Input, Run
from millrace.runtime.errors import Conflict
from millrace.sdk.flows import Flow, TaskKind, bodies_of
from millrace.sdk.local import Call, LocalRun
from millrace.sdk.local.bodies import body_of
from millrace.sdk.local.clock import Clock
from millrace.sdk.local.engine import Engine, Order, check_bodies
from millrace.sdk.testing.durations import seconds_of
from millrace.sdk.testing.run import RunUnderTest
from millrace.sdk.testing.stand_ins import Came, StandIn, came_of

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When an environment begins."""


class Environment:
    """Runs of some flows, without servers, threads or real time: the same test does the same each time.

    Work is done when it is dispatched, one attempt after the other, and takes no time unless a stand-in says so. Waits,
    pauses between attempts and timeouts happen when time is moved on: by `sleep`, `skip`, or a run's `finish`.

    Args:
        flows: Those that are started, and those that their steps start runs of.
        kinds: Work that steps may plan, besides that which flows call.
        now: When it begins.

    Attributes:
        runs: Every run, in the order in which they were started, those that steps start too.
        dispatched: Every attempt of every run, in order.
    """

    def __init__(self, *flows: Flow, kinds: Iterable[TaskKind] = (), now: datetime = START) -> None:
        self.runs: list[RunUnderTest] = []
        self.dispatched: list[Call] = []
        self._clock = Clock(now, goes=False)
        self._bodies = bodies_of(flows, kinds)
        self._stand_ins: dict[str, StandIn] = {}
        ids, self._numbers = itertools.count(1), itertools.count()
        workflows = [flow.workflow for flow in flows]
        self._engine = Engine(workflows, self._make, self._clock.now, lambda: UUID(int=next(ids)))
        self._under_way: dict[UUID, tuple[Order, Came]] = {}
        self._ends: list[tuple[datetime, int, UUID]] = []

    @property
    def now(self) -> datetime:
        """What time it is."""
        return self._clock.now()

    def stub(self, name: str | TaskKind, *answers: Any, takes: str | float | timedelta = 0) -> None:  # noqa: ANN401
        """Have something stand in for a kind of work, or for one task.

        Args:
            name: The kind, such as `data.ingest`, or the path of a task, such as `ingest`, `each[2013-01].fit`, or
                `each[].fit` for that of every item.
            answers: For each attempt one, the last one also for all that follow: an output, a function that is called
                with the input, an error that is raised, or `Lost()`, when the worker disappears.
            takes: How long each attempt takes: `"2h"`, seconds, or `math.inf` for one that never ends.
        """
        key = name.kind if isinstance(name, TaskKind) else name
        self._stand_ins[key] = StandIn(answers or ({},), seconds_of(takes))

    def start(
        self,
        flow: Flow | str,
        data: Any = None,  # noqa: ANN401 - a JSON value
        *,
        by: str = "author",
        refresh: bool = False,
        **trigger: str,
    ) -> RunUnderTest:
        """Start a run, and let happen what happens without time going by.

        Args:
            flow: Of which flow, or its name.
            data: What `trigger.data` is.
            by: Who starts it.
            refresh: Compute anew what was computed before in this environment and could be taken.
            trigger: `id`, `source`, `type`, `subject` and `time` of the event that starts it.

        Raises:
            LookupError: The environment was not given the flow, or one that it starts, or a kind of work has neither
                function nor stand-in.
        """
        check_bodies(self._engine.plans.values(), {*self._bodies, *self._stand_ins})
        name = flow if isinstance(flow, str) else flow.workflow.name
        run = self._engine.start(name, {**trigger, "data": data}, by, refresh=refresh)
        self._settle()
        return run

    def sleep(self, duration: str | float | timedelta) -> None:
        """Let time go by, and happen what happens meanwhile.

        Args:
            duration: Such as `"30d"`, `"1h 30m"`, seconds, or a timedelta.
        """
        until = self.now + timedelta(seconds=seconds_of(duration))
        while (moment := self._next()) is not None and moment <= until:
            self._move_to(moment)
        self._clock.move_to(until)

    def skip(self) -> bool:
        """Let time go by until something happens; return whether anything will."""
        moment = self._next()
        if moment is not None:
            self._move_to(moment)
        return moment is not None

    def tell(self, run: LocalRun, happened: Input) -> None:
        """Let something happen to a run, and what follows.

        Raises:
            Conflict: It changes nothing; it says why.
        """
        refused = self._engine.tell(run, happened)
        self._settle()
        if refused is not None:
            raise Conflict(refused)

    def _make(self, plan: Plan, run: Run, principal: str) -> RunUnderTest:
        self.runs.append(RunUnderTest(self, plan, run, principal))
        return self.runs[-1]

    def _next(self) -> datetime | None:
        while self._ends and self._ends[0][2] not in self._under_way:
            heapq.heappop(self._ends)
        moments = (self._ends[0][0] if self._ends else None, self._engine.next_due())
        return min((moment for moment in moments if moment is not None), default=None)

    def _move_to(self, moment: datetime) -> None:
        """Let time go by, to when something happens; what ends then ends before its time is up."""
        self._clock.move_to(moment)
        while self._ends and self._ends[0][0] <= moment:
            order, came = self._under_way.pop(heapq.heappop(self._ends)[2], (None, None))
            if order is not None and came is not None:
                self._engine.ended(order, came)
        self._engine.tick()
        self._settle()

    def _settle(self) -> None:
        """Do all work that has been dispatched, and stop what is no longer wanted."""
        while self._engine.orders or self._engine.stops:
            while self._engine.stops:
                order, _ = self._under_way.pop(self._engine.stops.popleft(), (None, None))
                if order is not None:
                    self._engine.stopped(order)
            if self._engine.orders:
                self._do(self._engine.orders.popleft())

    def _do(self, order: Order) -> None:
        self.dispatched.append(order.call)
        self._engine.began(order)
        stand_in = self._stand_in(order.call)
        answer = stand_in.next() if stand_in is not None else body_of(self._bodies, order.call.kind)
        came = came_of(
            order,
            answer,
            lambda fraction, message: self._engine.progressed(order, fraction, message),
            lambda carried: self._engine.progressed(order, carried=carried),
        )
        takes_s = stand_in.takes_s if stand_in is not None else 0.0
        if takes_s == 0:
            self._engine.ended(order, came)
            return
        self._under_way[order.token] = (order, came)
        if math.isfinite(takes_s):
            heapq.heappush(self._ends, (self.now + timedelta(seconds=takes_s), next(self._numbers), order.token))

    def _stand_in(self, call: Call) -> StandIn | None:
        names = (call.task, written(call.task), call.kind)
        return next((self._stand_ins[name] for name in names if name in self._stand_ins), None)
