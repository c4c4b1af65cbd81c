"""Wiring."""

from millrace.contracts.rpc.feature.v1 import feature_pb2 as pb
from millrace.feature.api import FeatureApi
from millrace.feature.engine.sandbox import Bounds
from millrace.feature.handlers import SUBSCRIPTIONS
from millrace.feature.settings import Settings
from millrace.feature.store import Store
from millrace.feature.work import tasks
from millrace.runtime.housekeeping import older_than
from millrace.runtime.service import service


async def main(settings: Settings) -> None:
    """Run the feature service until SIGTERM, then drain."""
    in_tasks = Bounds(settings.sql_memory_bytes, settings.sql_time_s)
    in_calls = Bounds(settings.compute_memory_bytes, settings.compute_time_s)
    async with service("feature", settings) as feature:
        begin = feature.transactions(Store)
        feature.subscribe(SUBSCRIPTIONS, begin, tasks(in_tasks))
        feature.housekeep(older_than(settings.generation_grace, "generation", Store.forget_generations, begin))
        feature.collect(begin, Store.referred)
        api = FeatureApi(in_calls, settings.concurrent_computes)
        feature.serve(pb.DESCRIPTOR.services_by_name["FeatureService"], api, begin)
        await feature.run()
