"""gRPC in."""

import asyncio

from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.data.v1 import data_pb2 as pb
from millrace.data.commands import ApplyContract, GetVersion, ListQuarantined, ListVersions, ReadPlan
from millrace.data.domain import Check, Version
from millrace.data.engine.contract import read_contract
from millrace.data.engine.quarantine import quarantined_rows
from millrace.data.handlers import apply_contract, get_version, list_versions, plan_reading
from millrace.data.store import Store
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.database import Transactions


class DataApi:
    """DataService."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def ApplyContract(
        self, request: pb.ApplyContractRequest, begin: Transactions[Store]
    ) -> pb.ApplyContractResponse:
        command = ApplyContract(namespace=request.namespace, odcs_yaml=request.odcs_yaml)
        contract = await asyncio.to_thread(read_contract, command.odcs_yaml)
        async with begin() as tx:
            changed = await apply_contract(command, contract, tx)
        return pb.ApplyContractResponse(
            contract=contract.name, contract_hash=contract.contract_hash, unchanged=not changed
        )

    async def GetVersion(self, request: pb.GetVersionRequest, tx: Store) -> pb.GetVersionResponse:
        version = await get_version(GetVersion(namespace=request.namespace, version_id=request.version_id), tx)
        return pb.GetVersionResponse(version=_version(version), checks=map(_check, version.checks))

    async def ListVersions(self, request: pb.ListVersionsRequest, tx: Store) -> pb.ListVersionsResponse:
        asked = {"namespace": request.namespace, "dataset": request.dataset or None, "limit": request.limit or 100}
        return pb.ListVersionsResponse(versions=map(_version, await list_versions(ListVersions(**asked), tx)))

    async def ReadPlan(self, request: pb.ReadPlanRequest, tx: Store) -> pb.ReadPlanResponse:
        asked = ReadPlan(
            namespace=request.namespace,
            dataset=request.dataset,
            version_ids=tuple(request.version_ids),
            up_to_partition=request.up_to_partition or None,
        )
        return pb.ReadPlanResponse(versions=map(_version, await plan_reading(asked, tx)))

    async def ListQuarantined(
        self, request: pb.ListQuarantinedRequest, begin: Transactions[Store]
    ) -> pb.ListQuarantinedResponse:
        asked = ListQuarantined(namespace=request.namespace, version_id=request.version_id, limit=request.limit or 100)
        async with begin() as tx:
            version = await get_version(GetVersion(namespace=asked.namespace, version_id=asked.version_id), tx)
        response = pb.ListQuarantinedResponse(rows_by_reason=version.rows_by_reason)
        if version.quarantined_sha256:
            path = await asyncio.to_thread(self._artifacts.path_of, version.quarantined_sha256)
            rows = await asyncio.to_thread(quarantined_rows, path, asked.limit)
            response.rows.extend(pb.QuarantinedRow(row_json=row.row_json, reasons=row.reasons) for row in rows)
        return response


def _check(check: Check) -> pb.Check:
    return pb.Check(reason=check.reason, description=check.description, failed_rows=check.failed_rows)


def _version(version: Version) -> pb.Version:
    landed_at, published_at = Timestamp(), Timestamp()
    landed_at.FromDatetime(version.landed_at)
    published_at.FromDatetime(version.published_at)
    return pb.Version(
        version_id=version.version_id,
        dataset=version.dataset,
        partition=version.partition,
        contract=version.contract,
        contract_hash=version.contract_hash,
        source_uri=version.source_uri,
        source_sha256=version.source_sha256,
        good_rows=version.good_rows,
        quarantined_rows=version.quarantined_rows,
        landed_at=landed_at,
        published_at=published_at,
        good_sha256=version.good_sha256,
        quarantined_sha256=version.quarantined_sha256,
        rows_by_reason=version.rows_by_reason,
    )
