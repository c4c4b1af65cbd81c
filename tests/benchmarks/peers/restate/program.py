"""The service that Restate calls, and the client that calls Restate."""

import sys

import aiohttp
import restate
import uvloop

from tests.benchmarks.peers.load import STEPS, answer

bench = restate.Service("bench")


async def add_one(n: int) -> int:
    return n + 1


@bench.handler()
async def five(ctx: restate.Context, n: int) -> int:
    for step in range(STEPS):
        n = await ctx.run_typed(f"step{step}", add_one, n=n)
    return n


app = restate.app(services=[bench])


async def main(url: str) -> None:
    async with aiohttp.ClientSession() as session:

        async def run() -> int:
            async with session.post(url, json=0) as response:
                response.raise_for_status()
                return await response.json()

        await answer(run)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
