"""Pools of a namespace, whose slots tasks take, and its quota."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.client import Channels

if TYPE_CHECKING:
    from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceAsyncStub


class Pools:
    """The pools of one namespace, and its quota; `Client.pools` is one."""

    def __init__(self, channels: Channels, namespace: str) -> None:
        self._control: ControlServiceAsyncStub = ControlServiceStub(channels.to("control"))
        self._namespace = namespace

    async def apply(
        self, name: str, slots: int, *, rate: pb.Rate | None = None, shares: Mapping[str, int] | None = None
    ) -> pb.ApplyPoolResponse:
        """Have a pool of so many slots, at once also for those that wait for them.

        Args:
            name: Its name.
            slots: How many; with 0, nothing is let in.
            rate: At which attempts begin at most.
            shares: What a fairness key has as often as one that is not named has one.
        """
        request = pb.ApplyPoolRequest(
            namespace=self._namespace, request_id=_new(), name=name, slots=slots, rate=rate, shares=shares or {}
        )
        return await self._control.ApplyPool(request)

    async def get(self, name: str) -> pb.GetPoolResponse:
        """Return a pool, who holds slots of it, and who waits for some."""
        return await self._control.GetPool(pb.GetPoolRequest(namespace=self._namespace, name=name))

    async def list(self, *, limit: int = 50, after: str = "") -> pb.ListPoolsResponse:
        """Return a page of the pools, by name, and where the next one begins."""
        request = pb.ListPoolsRequest(namespace=self._namespace, limit=limit, after=after)
        return await self._control.ListPools(request)

    async def delete(self, name: str) -> None:
        """Have a pool no more that no workflow in force names and nobody uses."""
        request = pb.DeletePoolRequest(namespace=self._namespace, request_id=_new(), name=name)
        await self._control.DeletePool(request)

    async def apply_quota(self, max_leases: int | None) -> pb.ApplyQuotaResponse:
        """Say how many tasks of the namespace may hold slots at once, over all its pools; None for any number."""
        request = pb.ApplyQuotaRequest(namespace=self._namespace, request_id=_new(), max_leases=max_leases)
        return await self._control.ApplyQuota(request)

    async def quota(self) -> pb.Quota:
        """Return the namespace's quota, how many tasks hold slots, and how many wait."""
        return (await self._control.GetQuota(pb.GetQuotaRequest(namespace=self._namespace))).quota


def _new() -> str:
    return str(uuid4())
