"""Wiring."""

from millrace.contracts.rpc.data.v1 import data_pb2 as pb
from millrace.data.api import DataApi
from millrace.data.clients.sources import Limits
from millrace.data.engine.sandbox import Bounds
from millrace.data.handlers import SUBSCRIPTIONS
from millrace.data.settings import Settings
from millrace.data.store import Store
from millrace.data.work import tasks
from millrace.runtime.service import service


async def main(settings: Settings) -> None:
    """Run data until SIGTERM, then drain."""
    limits = Limits(settings.allowed_roots, settings.allowed_hosts, settings.max_source_bytes, settings.fetch_timeout_s)
    bounds = Bounds(settings.scan_memory_bytes, settings.scan_timeout_s)
    async with service("data", settings) as data:
        begin = data.transactions(Store)
        data.collect(begin, Store.referred)
        data.subscribe(SUBSCRIPTIONS, begin, tasks(limits, bounds))
        data.serve(pb.DESCRIPTOR.services_by_name["DataService"], DataApi(data.artifacts), begin)
        await data.run()
