"""A job of Dagster's, executed by threads of one process."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from dagster import DagsterInstance, In, job, op

from tests.benchmarks.peers.load import IN_FLIGHT, STEPS, answer


@op(ins={"n": In(int, default_value=0)})
def add_one(n: int) -> int:
    return n + 1


@job
def five() -> None:
    n = add_one()
    for _ in range(STEPS - 1):
        n = add_one(n)


def execute(instance: DagsterInstance) -> int:
    done = five.execute_in_process(instance=instance)
    return int(done.output_for_node(f"add_one_{STEPS}"))


async def main() -> None:
    instance = DagsterInstance.get()
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        await answer(lambda: asyncio.get_running_loop().run_in_executor(threads, execute, instance))


if __name__ == "__main__":
    asyncio.run(main())
