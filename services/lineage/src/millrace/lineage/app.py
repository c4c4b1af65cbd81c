"""Wiring."""

from datetime import timedelta

from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as pb
from millrace.lineage.api import LineageApi
from millrace.lineage.handlers import SUBSCRIPTIONS, OutsideLineage, reports_of
from millrace.lineage.settings import Settings
from millrace.lineage.store import Store
from millrace.runtime.housekeeping import older_than
from millrace.runtime.service import service


async def main(settings: Settings) -> None:
    """Run the lineage service until SIGTERM, then drain."""
    async with service("lineage", settings) as lineage:
        begin = lineage.transactions(Store)
        lineage.subscribe(SUBSCRIPTIONS, begin)
        lineage.follow_queues(reports_of)
        lineage.listen(lambda: settings.openlineage_topics, OutsideLineage(settings.openlineage_namespace), begin)
        lineage.serve(pb.DESCRIPTOR.services_by_name["LineageService"], LineageApi(), begin)
        keep = timedelta(days=settings.keep_predictions_days)
        lineage.housekeep(older_than(keep, "prediction_lookup", Store.forget_answers, begin))
        await lineage.run()
