"""What feature asks of data: which files to read."""

import asyncio
from collections.abc import Iterable
from datetime import UTC

import grpc
from millrace.contracts.rpc.data.v1 import data_pb2 as pb
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.feature.domain import Plan, Version

TIMEOUT_S = 10.0


async def read_plan(channel: grpc.aio.Channel, namespace: str, datasets: Iterable[str]) -> Plan:
    """Return the newest version of every partition of some datasets."""
    stub, names = DataServiceStub(channel), sorted(set(datasets))

    async def versions(dataset: str) -> list[Version]:
        request = pb.ReadPlanRequest(namespace=namespace, dataset=dataset)
        answer = await stub.ReadPlan(request, timeout=TIMEOUT_S)
        return [_version(version) for version in answer.versions]

    return dict(zip(names, await asyncio.gather(*map(versions, names)), strict=True))


def _version(version: pb.Version) -> Version:
    return Version(
        version.version_id,
        version.dataset,
        version.partition,
        version.landed_at.ToDatetime(UTC),
        version.good_sha256,
        version.quarantined_sha256,
    )
