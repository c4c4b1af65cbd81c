"""The row about too much at once: who is served, who is told to come back, and that nothing told is lost."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.contracts import oip
from millrace.runtime.caller import PRIORITY
from millrace.runtime.errors import MillraceError, Overloaded

from tests.faults.declared import MODEL, NAMESPACE, prepared
from tests.faults.history import History
from tests.faults.judge import Judged
from tests.faults.rows import MEASURED, row
from tests.faults.stack import Stack

BURST_S = 60.0
TIMES = 10
BATCH_CLIENTS = 16
BATCH_ROWS = 20
AGAIN_S = 0.1
#: Below what a refused batch call is told to wait: it then raises rather than waits.
TIMEOUT_S = 2.0
#: What stands in line for so long is refused; the rest is a machine of two cores that does everything at once.
INTERACTIVE_P99_S = 2.5
#: Callers in bulk are turned away so that, of the others, no more than this fail.
INTERACTIVE_FAILED = 0.1


@dataclass
class Flood:
    """Callers who score in bulk and do not wait when told to.

    Attributes:
        answered: How many calls were.
        delays: What the refused ones were told to wait, seconds.
    """

    stack: Stack
    answered: int = 0
    delays: list[float] = field(default_factory=list)

    async def run(self, customers: tuple[str, ...]) -> None:
        """Call until cancelled."""
        metadata = (("x-millrace-namespace", NAMESPACE), (PRIORITY, "batch"))
        stub = oip.OpenInferenceStub(self.stack.channel("inference"))
        for number in itertools.count():
            request = oip.ModelInferRequest(model_name=MODEL, id=f"batch-{number}")
            rows = [customers[(number + n) % len(customers)] for n in range(BATCH_ROWS)]
            oip.add_bytes(request, "customer", rows)
            oip.add_doubles(request, "basket.price", [3.5] * BATCH_ROWS)
            oip.add_doubles(request, "basket.pieces", [2.0] * BATCH_ROWS)
            try:
                await stub.ModelInfer(request, metadata=metadata, timeout=TIMEOUT_S)
                self.answered += 1
            except Overloaded as error:
                self.delays.append(error.retry_after_s)
                await asyncio.sleep(AGAIN_S)
            except MillraceError:
                await asyncio.sleep(AGAIN_S)


async def shed(stack: Stack, priority: str) -> float:
    """Return how many calls of a priority inference has turned away."""
    measured = await stack.metrics("inference")
    return measured.get(f'millrace_rpc_shed_total{{priority="{priority}",service="inference"}}', 0.0)


@dataclass
class Seen:
    """What came of the predictions that were asked for.

    Attributes:
        answered_s: How long each one took that was answered, seconds.
        failed: How many were not: refused, or not in time.
    """

    answered_s: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def asked(self) -> int:
        """How many there were."""
        return len(self.answered_s) + self.failed

    @property
    def p99_s(self) -> float:
        """How long the answers took but for the slowest of a hundred, seconds."""
        return sorted(self.answered_s)[int(0.99 * (len(self.answered_s) - 1))]

    def __str__(self) -> str:
        """Return it for people."""
        return f"of {self.asked} interactive calls {self.failed} failed, p99 of the others {self.p99_s:.2f} s"


def predictions(history: History, since: float) -> Seen:
    """Return what has come of those that were asked for since then."""
    begun: dict[str, float] = {}
    seen = Seen()
    for entry in history.entries:
        if entry.op != "predict" or entry.at < since:
            continue
        if entry.outcome == "invoke":
            begun[entry.key] = entry.at
        elif entry.key in begun and entry.outcome == "ok":
            seen.answered_s.append(entry.at - begun[entry.key])
        elif entry.key in begun:
            seen.failed += 1
    return seen


@row(25)
async def test_row_25_a_burst_sheds_batch_first_and_loses_nothing(
    stack: Stack, judged: Judged, record_property: Callable[[str, object], None]
) -> None:
    injected = f"{TIMES} times the load and {BATCH_CLIENTS} callers in bulk for {BURST_S:g} s"
    customers = (await prepared(stack)).customers
    async with judged(25, stack, injected, settle_s=300) as fault:
        before = {priority: await shed(stack, priority) for priority in ("interactive", "batch")}
        flood, began = Flood(stack), time.time()
        async with asyncio.TaskGroup() as group, fault.load.more(TIMES - 1):
            callers = [group.create_task(flood.run(customers)) for _ in range(BATCH_CLIENTS)]
            await asyncio.sleep(BURST_S)
            for caller in callers:
                caller.cancel()
        seen = predictions(fault.history, began)
        refused = {priority: await shed(stack, priority) - count for priority, count in before.items()}
        fault.over()
        record_property(MEASURED, f"{seen}; turned away {refused}, batch answered {flood.answered}")

    assert flood.delays
    assert flood.answered
    assert min(flood.delays) > TIMEOUT_S
    batch_share = refused["batch"] / (refused["batch"] + flood.answered)
    assert refused["interactive"] / seen.asked < batch_share
    # Who is interactive and turned away comes back when told to: most are answered then.
    assert seen.failed / seen.asked < min(batch_share / 3, INTERACTIVE_FAILED)
    assert seen.p99_s <= INTERACTIVE_P99_S
