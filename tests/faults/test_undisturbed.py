from tests.faults.claims.lineage import logged
from tests.faults.judge import Judged
from tests.faults.rows import row
from tests.faults.stack import Stack

#: Details are told once a second; those of the last moment may come after all was read.
LAST_S = 3.0


@row(0)
async def test_a_stack_that_nothing_happens_to_keeps_all_promises(stack: Stack, judged: Judged) -> None:
    async with judged(0, stack, "nothing") as fault:
        fault.over()

    assert fault.history.of("trigger")
    assert fault.history.of("predict")
    assert not fault.history.of("predict", "unknown")
    assert fault.seen is not None
    answered = fault.history.of("predict")
    assert {entry.value for entry in answered if entry.at < answered[-1].at - LAST_S} <= logged(fault.seen)
