"""Made-up training sets: text keys, gaps, and days that differ from one another."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.testing import Server, store
from millrace.training.store import Store

DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01

WriteTrainingSet = Callable[..., Path]


@pytest.fixture(scope="session")
def made_up_shops() -> Callable[..., None]:
    def write(
        path: Path, *, days: int = 30, rows_a_day: int = 120, seed: int = 0, shuffled_from: int | None = None
    ) -> None:
        """Write a training set whose label follows its features, but for the days whose labels are shuffled."""
        generator = np.random.default_rng(seed)
        rows = days * rows_a_day
        t_us = START_US + np.sort(generator.integers(0, days * DAY_US, rows))
        load, queue = generator.normal(size=rows), generator.normal(size=rows)
        weather = generator.normal(scale=0.5, size=days)[(t_us - START_US) // DAY_US]
        label = (generator.random(rows) < 1 / (1 + np.exp(1.0 - 1.8 * load - queue + weather))).astype(float)
        if shuffled_from is not None:
            late = t_us >= START_US + shuffled_from * DAY_US
            label[late] = generator.permutation(label[late])
        queue[generator.random(rows) < 0.2] = np.nan
        table = pa.table(
            {
                "shop": generator.choice(["north", "süd", "west"], rows),
                "t": pa.array(t_us, pa.timestamp("us", "UTC")),
                "label": label,
                "shop.load": load,
                "shop.queue": pa.array(queue, from_pandas=True),
                "clock.stamp": (t_us // 1_000_000).astype(float),
            }
        )
        pq.write_table(table, path)

    return write


@pytest.fixture
def write_training_set(tmp_path: Path, made_up_shops: Callable[..., None]) -> WriteTrainingSet:
    def write(**how: int) -> Path:
        made_up_shops(tmp_path / "set.parquet", **how)
        return tmp_path / "set.parquet"

    return write


@pytest.fixture
def task() -> TaskDispatched:
    return TaskDispatched(
        namespace="demo",
        queue="training",
        task_id=UUID(int=1),
        attempt=1,
        token=UUID(int=2),
        kind="training.tune",
        input={},
        run_id=UUID(int=3),
        workflow="shops",
        name="tune",
        principal="ada",
        deadline=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture
async def tx(postgres: Server, task: TaskDispatched) -> AsyncIterator[Store]:
    async with store(postgres, "training", Store, task) as opened:
        yield opened
