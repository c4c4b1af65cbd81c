"""Made-up shops with their visits and sites, and a neighbour that tells which versions of them there are."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from millrace.contracts.rpc.data.v1 import data_pb2 as data_pb
from millrace.contracts.tasks import TaskDispatched
from millrace.feature.store import Store
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.testing import Server, store

TIME = pa.timestamp("us", tz="UTC")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)

SHOPS_YAML = """
name: queue
entity: [shop]
sources: [{dataset: visits, partitions: 2}]
sql: |
  SELECT shop, visited_at, visited_at + INTERVAL 5 MINUTE AS told_at,
      avg(waited_min) OVER (PARTITION BY shop ORDER BY visited_at ROWS 3 PRECEDING) AS waited_min
  FROM visits
event_time: visited_at
known_at: told_at
features: [waited_min]
max_age: 8h
---
name: record
entity: [shop]
sources: [visits]
sql: |
  SELECT shop, _landed_at, avg(waited_min) AS waited_min, count(*) AS visits FROM visits__all GROUP BY ALL
event_time: _landed_at
known_at: _landed_at
features: [waited_min, visits]
online: true
---
name: site
entity: [shop, floor]
sources: [{dataset: sites, partitions: all}]
sql: SELECT shop, floor, seats, opened_at FROM sites
event_time: opened_at
known_at: opened_at
features: [seats]
online: true
"""


@pytest.fixture
def task() -> TaskDispatched:
    return TaskDispatched(
        namespace="demo",
        queue="feature",
        task_id=UUID(int=1),
        attempt=1,
        token=UUID(int=2),
        kind="feature.materialise",
        input={},
        run_id=UUID(int=3),
        workflow="shops",
        name="materialise",
        principal="ada",
        deadline=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture
async def tx(postgres: Server, task: TaskDispatched) -> AsyncIterator[Store]:
    async with store(postgres, "feature", Store, task) as opened:
        yield opened


def visits(month: int, rows: int = 400) -> pa.Table:
    """Return visits of one month; every tenth has a wait that nobody noted."""
    start = datetime(2026, month, 1, tzinfo=UTC)
    return pa.table(
        {
            "shop": [("nørth", "south", "west 'n' all")[n * 7 % 3] for n in range(rows)],
            "floor": pa.array([n % 2 for n in range(rows)], pa.int64()),
            "visited_at": pa.array([start + timedelta(minutes=97 * n % 40_000) for n in range(rows)], TIME),
            "waited_min": pa.array([None if n % 10 == 9 else n * 13 % 29 for n in range(rows)], pa.int64()),
        }
    )


def sites() -> pa.Table:
    shops = [(shop, floor) for shop in ("nørth", "south") for floor in (0, 1)]
    return pa.table(
        {
            "shop": [shop for shop, _ in shops],
            "floor": pa.array([floor for _, floor in shops], pa.int32()),
            "seats": [10, 20, 30, None],
            "opened_at": pa.array([FIRST] * 4, TIME),
        }
    )


class Published:
    """What data would answer, with the files in a store of artifacts.

    Attributes:
        target: Where it answers: `host:port`.
    """

    def __init__(self, artifacts: Artifacts, folder: Path) -> None:
        self.target = ""
        self._artifacts = artifacts
        self._folder = folder
        self._versions: dict[str, dict[str, data_pb.Version]] = {}

    def add(
        self, dataset: str, partition: str, landed_at: datetime, good: pa.Table, quarantined: pa.Table | None = None
    ) -> str:
        """Publish a version; return its id."""
        version = data_pb.Version(dataset=dataset, partition=partition, good_sha256=self._put(good))
        version.quarantined_sha256 = self._put(quarantined) if quarantined is not None else ""
        version.version_id = f"{dataset}-{partition}-{version.good_sha256[:8]}"
        version.landed_at.FromDatetime(landed_at)
        self._versions.setdefault(dataset, {})[partition] = version
        return version.version_id

    async def read_plan(self, request: data_pb.ReadPlanRequest, _: object) -> data_pb.ReadPlanResponse:
        """Answer DataService.ReadPlan."""
        found = self._versions.get(request.dataset, {})
        return data_pb.ReadPlanResponse(versions=[found[partition] for partition in sorted(found)])

    def _put(self, rows: pa.Table) -> str:
        path = self._folder / "rows.parquet"
        pq.write_table(rows, path)
        return self._artifacts.put_file(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feature")


@pytest.fixture(scope="module")
def artifacts(folder: Path) -> Artifacts:
    return Artifacts((folder / "artifacts").as_uri())


@pytest.fixture(scope="module")
async def data(artifacts: Artifacts, folder: Path) -> AsyncIterator[Published]:
    published = Published(artifacts, folder)
    server = grpc.aio.server()
    answer = grpc.unary_unary_rpc_method_handler(
        published.read_plan,
        data_pb.ReadPlanRequest.FromString,
        data_pb.ReadPlanResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("millrace.data.v1.DataService", {"ReadPlan": answer})]
    )
    published.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield published
    await server.stop(0)


@pytest.fixture(scope="module")
def shops(data: Published) -> Published:
    """Two months of visits, some of them quarantined, and the shops' sites."""
    for month in (1, 2):
        aside = visits(month, 20).drop_columns(["floor"]).append_column("_reasons", pa.array([["odd"]] * 20))
        data.add("visits", f"2026-0{month}", datetime(2026, month + 1, 1, tzinfo=UTC), visits(month), aside)
    data.add("sites", "all", FIRST, sites())
    return data
