"""What one transaction takes."""

import pytest
from millrace.runtime.envelope import MAX_EMITTED_BYTES
from millrace.runtime.errors import InvalidInput
from millrace.runtime.transaction import Transactions
from runtime_effects import Effects, version


async def test_an_event_that_no_broker_takes_is_refused_before_it_holds_up_the_others(
    begin: Transactions[Effects],
) -> None:
    async with begin() as tx:
        with pytest.raises(InvalidInput, match=r"VersionPublished d has \d+ bytes, more than"):
            tx.emit(version("d").model_copy(update={"source_uri": "x" * MAX_EMITTED_BYTES}))
        assert tx.emitted == []
