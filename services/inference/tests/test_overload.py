import asyncio
from typing import Any

from millrace.runtime.caller import PRIORITY
from millrace.runtime.errors import Overloaded
from millrace.runtime.testing import until

from services.inference.tests.inference_process import DEMO, Inference, request

BATCH = (*DEMO, (PRIORITY, "batch"))
PLACES = 4  # what calls in bulk may take of all that are served at once
TOO_MANY = 8
TIMEOUT_S = 2.0


async def test_under_load_predictions_in_bulk_are_refused_with_a_delay_and_those_of_people_are_served(
    inference: Inference,
) -> None:
    await inference.in_use("busy", 1)
    infer = inference.protocol().ModelInfer

    def ask(who: str, metadata: Any) -> "asyncio.Future[Any]":
        # Each about somebody else: nobody's features are remembered, and all wait for the online table.
        asked = request("busy", ["k"], carrier=who)
        return asyncio.ensure_future(infer(asked, metadata=metadata, timeout=TIMEOUT_S))

    inference.neighbours.answering.clear()
    try:
        bulk = [ask(f"bulk-{number}", BATCH) for number in range(PLACES + TOO_MANY)]

        async def some_refused() -> bool:
            return sum(one.done() for one in bulk) >= TOO_MANY

        await until(some_refused, seconds=TIMEOUT_S)
        people = [ask(f"person-{number}", DEMO) for number in range(4)]
        await asyncio.wait(people, timeout=0.1)
    finally:
        inference.neighbours.answering.set()
    answers = await asyncio.gather(*people)
    told = await asyncio.gather(*bulk, return_exceptions=True)

    refused = [error for error in told if isinstance(error, Overloaded)]
    assert len(answers) == len(people)
    assert len(refused) == TOO_MANY
    assert all(error.retry_after_s > TIMEOUT_S for error in refused)
