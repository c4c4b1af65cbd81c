"""A fault under load, and the verdict on it."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.faults.checker import Finding, verdict
from tests.faults.declared import prepared
from tests.faults.facts import Facts
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.reads import counted, facts, quiet, settled
from tests.faults.result import Result
from tests.faults.rows import ROWS
from tests.faults.stack import Stack
from tests.faults.topics import ends

SETTLE_S = 60.0
#: How long a recovery is waited for at least, so that one that is late is measured.
PATIENCE_S = 60.0


class Fault:
    """A fault that is being injected.

    Attributes:
        load: The load around it.
        history: What its clients saw.
        seen: What the checker was told; there once the block has ended.
        findings: What the checker found; there once the block has ended.
    """

    def __init__(self, load: Load, bound_s: float | None) -> None:
        self.load = load
        self.history = load.history
        self.bound_s = bound_s
        self.seen: Facts | None = None
        self.findings: list[Finding] = []
        self._recovery: asyncio.Task[float] | None = None

    def over(self) -> None:
        """The fault is gone: from here it counts how long it takes until all is as before."""
        if self._recovery is None:
            self._recovery = asyncio.create_task(self._recover())

    async def recovered(self) -> float:
        """Return how long that took, seconds.

        Raises:
            AssertionError: Longer than anybody waits.
        """
        self.over()
        assert self._recovery is not None
        patience_s = max(2 * (self.bound_s or 0), PATIENCE_S)
        try:
            async with asyncio.timeout(patience_s):
                return await self._recovery
        except TimeoutError:
            raise AssertionError(f"not as before {patience_s:g} s after the fault was gone") from None

    async def _recover(self) -> float:
        began = time.monotonic()
        await self.load.probe()
        return time.monotonic() - began


@dataclass(frozen=True)
class Judged:
    """Judges faults: `async with judged(6, stack, "kill -9 of the broker") as fault`.

    Attributes:
        before_s: How long the load runs before the fault, seconds.
        after_s: How long it goes on after the recovery, at least.
        least_s: How long it runs in all, at least.
        keep: Called with each result, good or bad.
    """

    before_s: float
    after_s: float
    least_s: float
    keep: Callable[[Result], None]

    @asynccontextmanager
    async def __call__(
        self,
        number: int,
        stack: Stack,
        injected: str,
        *,
        bound_s: float | None = None,
        rate: float = 1.0,
        settle_s: float = SETTLE_S,
        expected: Callable[[Finding], bool] = lambda _: False,
        shows: str = "held",
    ) -> AsyncIterator[Fault]:
        """Run load, let the block inject a fault, wait for the recovery, and judge.

        Args:
            number: The row.
            injected: What the block does, for the table.
            bound_s: The longest recovery, where it is not the row's own.
            rate: Times the usual load.
            settle_s: How long what is under way may take to end after the load.
            expected: Findings that are no failure: of what the block itself takes away or ends otherwise, by `about`.
                The table tells them apart; that they are there is for the row to see, in `fault.findings`.
            shows: What the table says of a row that holds, where less is shown than that all came to be as it was.

        Raises:
            AssertionError: Something was lost, doubled, out of order or not there to be judged, or the recovery took
                too long.
        """
        bound = ROWS[number].bound_s if bound_s is None else bound_s
        result = Result(number, injected, bound, shows)
        history = History()
        try:
            load = Load(stack, history, rate)
            await prepared(stack)
            await quiet(stack)  # what comes before is not judged
            begins, effects, before = await asyncio.gather(
                ends(stack.servers), asyncio.to_thread(stack.effects.rows), counted(stack)
            )
            began = time.monotonic()
            async with load:
                fault = Fault(load, bound)
                await asyncio.sleep(self.before_s)
                yield fault
                result.recovered_s = await fault.recovered()
                await asyncio.sleep(max(self.after_s, self.least_s - (time.monotonic() - began)))
            result.load_s = time.monotonic() - began
            await settled(stack, load, settle_s)
            fault.seen = await facts(stack, load, begins, effects[-1].receipt if effects else 0, before)
            fault.findings = verdict(fault.seen)
            result.judge_s = time.monotonic() - began - result.load_s
            _judge(result, fault, expected)
        finally:
            with contextlib.suppress(OSError):
                history.keep(stack.folder / f"history-{number}.jsonl")
            self.keep(result)


def _judge(result: Result, fault: Fault, expected: Callable[[Finding], bool]) -> None:
    assert fault.seen is not None
    result.expected = Counter(finding.kind for finding in fault.findings if expected(finding))
    findings = [finding for finding in fault.findings if not expected(finding)]
    result.lost = sum(finding.kind == "lost" for finding in findings)
    result.doubled = sum(finding.kind == "doubled" for finding in findings)
    result.repeated_calls = sum(effect.calls - 1 for effect in fault.seen.effects)
    result.broken = len(findings)
    told = "\n".join(f"{finding.claim}: {finding.kind}: {finding.detail}" for finding in findings[:20])
    assert not findings, f"{len(findings)} findings:\n{told}"
    late = result.bound_s is not None and result.recovered_s is not None and result.recovered_s > result.bound_s
    assert not late, f"as before only after {result.recovered_s:.1f} s, bound {result.bound_s:g} s"
    result.held = True
