import pytest
from millrace.runtime.errors import Overloaded

from tests.faults.history import History


def test_a_client_writes_down_how_each_request_ended() -> None:
    history = History()
    with history.op("trigger", "a") as op:
        op.ok("there")
    with history.op("trigger", "b"):
        raise TimeoutError("no answer")
    with history.op("trigger", "d"):
        raise Overloaded("later")
    with pytest.raises(ValueError, match="a bug"), history.op("trigger", "c"):
        raise ValueError("a bug")

    assert [entry.outcome for entry in history.entries] == [
        *("invoke", "ok"),
        *("invoke", "unknown"),
        *("invoke", "fail"),
        *("invoke", "unknown"),
    ]
