"""Wiring."""

from millrace.contracts import SERVICES
from millrace.contracts.rpc.observability.v1 import observability_pb2 as pb
from millrace.observability.api import ObservabilityApi
from millrace.observability.domain import Price
from millrace.observability.handlers import SUBSCRIPTIONS, tasks_of
from millrace.observability.settings import Settings
from millrace.observability.store import Store
from millrace.runtime.caller import caller
from millrace.runtime.housekeeping import older_than
from millrace.runtime.service import service


async def main(settings: Settings) -> None:
    """Run the observability service until SIGTERM, then drain."""
    async with service("observability", settings) as observability:
        begin = observability.transactions(Store)
        async with begin() as tx:
            tx.set_price(Price(settings.price_per_cpu_hour, settings.currency))
        channels = observability.channels
        api = ObservabilityApi(
            lambda name: channels.to(name, on_behalf_of=caller().principal), SERVICES, settings.audit_timeout_s
        )
        observability.housekeep(
            older_than(settings.series_retention, "attempt", Store.forget_attempts, begin),
            older_than(settings.series_retention, "run", Store.forget_runs, begin),
            older_than(settings.series_retention, "lag", Store.forget_lags, begin),
        )
        observability.subscribe(SUBSCRIPTIONS, begin)
        observability.follow_queues(tasks_of)
        observability.serve(pb.DESCRIPTOR.services_by_name["ObservabilityService"], api, begin)
        await observability.run()
