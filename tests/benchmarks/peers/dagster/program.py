"""A job of Dagster's, executed by processes that are forks of one."""

import asyncio
from concurrent.futures import ProcessPoolExecutor

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


def execute() -> int:
    done = five.execute_in_process(instance=DagsterInstance.get())
    return int(done.output_for_node(f"add_one_{STEPS}"))


async def main() -> None:
    with ProcessPoolExecutor(1) as first:  # whoever comes first makes the tables; 32 at once get in one another's way
        first.submit(execute).result()
    with ProcessPoolExecutor(IN_FLIGHT) as processes:
        await answer(lambda: asyncio.get_running_loop().run_in_executor(processes, execute))


if __name__ == "__main__":
    asyncio.run(main())
