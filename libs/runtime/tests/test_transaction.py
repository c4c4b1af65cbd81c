"""What one transaction takes, and what it says when it cannot."""

import pytest
from millrace.runtime.connection import hindered
from millrace.runtime.envelope import MAX_EMITTED_BYTES
from millrace.runtime.errors import InvalidInput, Unavailable
from millrace.runtime.transaction import Transactions
from runtime_effects import Effects, version


async def test_an_event_that_no_broker_takes_is_refused_before_it_holds_up_the_others(
    begin: Transactions[Effects],
) -> None:
    async with begin() as tx:
        with pytest.raises(InvalidInput, match=r"VersionPublished d has \d+ bytes, more than"):
            tx.emit(version("d").model_copy(update={"source_uri": "x" * MAX_EMITTED_BYTES}))
        assert tx.emitted == []


async def test_a_server_that_does_not_answer_is_unavailable_though_its_connection_lives_on(
    begin: Transactions[Effects],
) -> None:
    with pytest.raises(Unavailable) as error:
        async with begin() as tx:
            # As the bound on every statement does, only sooner.
            await tx._connection.execute("SELECT pg_sleep(20)", timeout=0.1)
    assert hindered(error.value)
    async with begin() as tx:
        assert await tx.names() == []


async def test_a_handlers_own_timeout_is_not_taken_for_the_databases(begin: Transactions[Effects]) -> None:
    with pytest.raises(TimeoutError):
        async with begin():
            raise TimeoutError
