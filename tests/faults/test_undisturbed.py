from tests.faults.judge import Judged
from tests.faults.rows import row
from tests.faults.stack import Stack


@row(0)
async def test_a_stack_that_nothing_happens_to_keeps_all_promises(stack: Stack, judged: Judged) -> None:
    async with judged(0, stack, "nothing") as fault:
        fault.over()

    assert fault.history.of("trigger")
    assert fault.history.of("predict")
    assert not fault.history.of("predict", "unknown")
