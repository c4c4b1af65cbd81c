from tests.faults.checker import told_once
from tests.faults.claims.lineage import logged
from tests.faults.judge import Judged
from tests.faults.replicas import another
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


@row(0)
async def test_a_service_of_two_processes_tells_nothing_twice(stack: Stack, judged: Judged) -> None:
    second = another(stack, "control")
    await second.start()
    try:
        async with judged(0, stack, "nothing, control having two processes") as fault:
            fault.over()
    finally:
        second.kill()

    assert b'"events_handled"' in second.log.read_bytes(), "it had a part in the work"
    assert fault.seen is not None
    assert list(told_once(fault.seen)) == []
