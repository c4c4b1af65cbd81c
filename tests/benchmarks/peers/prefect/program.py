"""A flow of Prefect's, called as a function is."""

import asyncio

from prefect import flow, task

from tests.benchmarks.peers.load import STEPS, answer


@task
async def add_one(n: int) -> int:
    return n + 1


@flow
async def five(n: int) -> int:
    for _ in range(STEPS):
        n = await add_one(n)
    return n


if __name__ == "__main__":
    asyncio.run(answer(lambda: five(0)))
