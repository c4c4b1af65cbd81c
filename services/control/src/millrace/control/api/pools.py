"""Pools and quotas over gRPC."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api.messages import time_message
from millrace.control.api.pages import asked_page, cut
from millrace.control.commands.pools import ApplyPool, ApplyQuota, DeletePool, GetPool
from millrace.control.handlers import apply_pool, apply_quota, delete_pool, get_pool
from millrace.control.store import Store
from millrace.runtime.caller import caller


class PoolApi:
    """What control answers of pools and quotas."""

    async def ApplyPool(self, request: pb.ApplyPoolRequest, tx: Store) -> pb.ApplyPoolResponse:
        command = ApplyPool(
            namespace=request.namespace,
            principal=caller().principal,
            name=request.name,
            slots=request.slots,
            rate=_rate(request.rate) if request.HasField("rate") else None,
            shares=dict(request.shares),
        )
        pool, changed = await apply_pool(command, tx)
        return pb.ApplyPoolResponse(pool=_pool(pool), unchanged=not changed)

    async def GetPool(self, request: pb.GetPoolRequest, tx: Store) -> pb.GetPoolResponse:
        found = await get_pool(GetPool(namespace=request.namespace, name=request.name), tx)
        holders, waiters = map(_use, found.holders), map(_use, found.waiters)
        return pb.GetPoolResponse(pool=_pool(found.pool), holders=holders, waiters=waiters)

    async def ListPools(self, request: pb.ListPoolsRequest, tx: Store) -> pb.ListPoolsResponse:
        asked = asked_page(request)
        page, after = cut(
            await tx.shown_pools(asked.namespace, asked.after, asked.limit + 1), asked, itemgetter("name")
        )
        return pb.ListPoolsResponse(pools=map(_pool, page), next_after=after)

    async def DeletePool(self, request: pb.DeletePoolRequest, tx: Store) -> pb.DeletePoolResponse:
        await delete_pool(DeletePool(namespace=request.namespace, name=request.name), tx)
        return pb.DeletePoolResponse()

    async def ApplyQuota(self, request: pb.ApplyQuotaRequest, tx: Store) -> pb.ApplyQuotaResponse:
        most = request.max_leases if request.HasField("max_leases") else None
        command = ApplyQuota(namespace=request.namespace, principal=caller().principal, max_leases=most)
        quota, changed = await apply_quota(command, tx)
        return pb.ApplyQuotaResponse(quota=_quota(quota), unchanged=not changed)

    async def GetQuota(self, request: pb.GetQuotaRequest, tx: Store) -> pb.GetQuotaResponse:
        return pb.GetQuotaResponse(quota=_quota(await tx.quota(request.namespace)))


def _rate(rate: pb.Rate) -> dict[str, Any]:
    """Return a rate as it is given: what is not is left out."""
    given = {"count": rate.count, "per_s": rate.per_s, "burst": rate.burst}
    return {"count": rate.count} | {name: value for name, value in given.items() if value}


def _pool(row: Mapping[str, Any]) -> pb.Pool:
    return pb.Pool(
        name=row["name"],
        slots=row["slots"],
        rate=pb.Rate(**row["rate"]) if row["rate"] is not None else None,
        shares=row["shares"],
        principal=row["principal"],
        applied_at=time_message(row["applied_at"]),
        taken=row["taken"],
        leases=row["leases"],
        waiting=row["waiting"],
    )


def _use(row: Mapping[str, Any]) -> pb.PoolUse:
    return pb.PoolUse(
        run_id=str(row["run_id"]),
        task=row["name"],
        weight=row["weight"],
        priority=row["priority"],
        fairness_key=row["fairness_key"],
        since=time_message(row["since"]),
    )


def _quota(row: Mapping[str, Any]) -> pb.Quota:
    return pb.Quota(
        max_leases=row["max_leases"],
        leases=row["leases"],
        waiting=row["waiting"],
        principal=row["principal"] or "",
        applied_at=time_message(row["applied_at"]),
    )
