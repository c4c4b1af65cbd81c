"""A workflow of DBOS, and who starts it."""

import asyncio
import sys

from dbos import DBOS

from tests.benchmarks.peers.load import STEPS, answer


@DBOS.step()
async def add_one(n: int) -> int:
    return n + 1


@DBOS.workflow()
async def five(n: int) -> int:
    for _ in range(STEPS):
        n = await add_one(n)
    return n


async def run() -> int:
    handle = await DBOS.start_workflow_async(five, 0)
    return await handle.get_result()


if __name__ == "__main__":
    DBOS(config={"name": "bench", "system_database_url": sys.argv[1], "log_level": "WARNING"})
    DBOS.launch()
    asyncio.run(answer(run))
    DBOS.destroy()
