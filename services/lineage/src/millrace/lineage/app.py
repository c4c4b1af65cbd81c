"""Wiring."""

from datetime import timedelta

from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as pb
from millrace.lineage.api import LineageApi
from millrace.lineage.handlers import SUBSCRIPTIONS, OutsideLineage, forget_old_answers
from millrace.lineage.settings import Settings
from millrace.lineage.store import Store
from millrace.runtime.service import service


async def main(settings: Settings) -> None:
    """Run the lineage service until SIGTERM, then drain."""
    async with service("lineage", settings) as lineage:
        begin = lineage.transactions(Store)
        lineage.subscribe(SUBSCRIPTIONS, begin)
        lineage.listen(lambda: settings.openlineage_topics, OutsideLineage(settings.openlineage_namespace), begin)
        lineage.serve(pb.DESCRIPTOR.services_by_name["LineageService"], LineageApi(), begin)
        keep = timedelta(days=settings.keep_predictions_days)
        lineage.background(lambda: forget_old_answers(begin, keep, settings.forget_every_s))
        await lineage.run()
