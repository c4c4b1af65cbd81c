"""A client of Airflow's API: it triggers a run and looks until that has ended."""

import asyncio
import sys

import aiohttp

from tests.benchmarks.peers.load import STEPS, answer

LOOK_S = 1.0
READY_S = 120
RUNS = "/api/v2/dags/five/dagRuns"
LAST = f"taskInstances/add_one__{STEPS - 1}/xcomEntries/return_value"


async def one_run(session: aiohttp.ClientSession) -> int:
    async with session.post(RUNS, json={"logical_date": None}) as made:
        run = await made.json()
    place = f"{RUNS}/{run['dag_run_id']}"
    while run["state"] not in ("success", "failed"):
        await asyncio.sleep(LOOK_S)
        async with session.get(place) as found:
            run = await found.json()
    async with session.get(f"{place}/{LAST}") as found:
        return int((await found.json())["value"])


async def main(address: str) -> None:
    async with aiohttp.ClientSession(address, raise_for_status=True) as session:
        async with session.get("/auth/token") as given:
            session.headers["authorization"] = f"Bearer {(await given.json())['access_token']}"
        async with asyncio.timeout(READY_S):
            while not await known(session):
                await asyncio.sleep(LOOK_S)
        await answer(lambda: one_run(session))


async def known(session: aiohttp.ClientSession) -> bool:
    """Whether the flow has been read from its file."""
    async with session.get("/api/v2/dags/five", raise_for_status=False) as found:
        return found.status == 200


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
