import pytest
from millrace.runtime.errors import NotFound

from tests.benchmarks.soak_probe import REMOVED, TASKS, removed, value


def test_a_metric_that_is_not_there_is_missed_by_name_and_is_no_0() -> None:
    assert value({TASKS: 0.0}, TASKS, "data") == 0
    with pytest.raises(NotFound, match=f"data does not measure {TASKS}"):
        value({"millrace_asyncio_task": 3.0}, TASKS, "data")


def test_what_housekeeping_removed_is_told_by_kind() -> None:
    measured = {
        f'{REMOVED}{{service="data",what="held"}}': 20.0,
        f'{REMOVED}{{service="data",what="inbox"}}': 3.0,
        "other_total": 1.0,
    }

    assert removed(measured) == {"held": 20, "inbox": 3}
