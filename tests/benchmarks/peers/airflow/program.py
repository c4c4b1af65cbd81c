"""A client of Airflow's API: it triggers a run and waits for its end."""

import asyncio
import json
import sys

import aiohttp

from tests.benchmarks.peers.load import STEPS, answer

RUNS = "/api/v2/dags/five/dagRuns"
LAST = f"add_one__{STEPS - 1}"
LOOK_S = 1  # how often the server looks whether a run has ended


async def one_run(session: aiohttp.ClientSession) -> int | None:
    async with session.post(RUNS, json={"logical_date": None}) as made:
        run = await made.json()
    asked = {"interval": LOOK_S, "result": LAST}
    async with session.get(f"{RUNS}/{run['dag_run_id']}/wait", params=asked) as told:
        *_, last = (await told.text()).splitlines()
    return json.loads(last).get("results", {}).get(LAST)


async def main(address: str) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(address, raise_for_status=True, timeout=timeout) as session:
        async with session.get("/auth/token") as given:
            session.headers["authorization"] = f"Bearer {(await given.json())['access_token']}"
        await answer(lambda: one_run(session))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
