"""What Airflow runs."""

from airflow.sdk import dag, task

from tests.benchmarks.peers.load import STEPS


@task
def add_one(n: int) -> int:
    return n + 1


@dag(schedule=None)
def five() -> None:
    n = 0
    for _ in range(STEPS):
        n = add_one(n)


five()
