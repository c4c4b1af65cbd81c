"""Wiring."""

from millrace.contracts.rpc.training.v1 import training_pb2 as pb
from millrace.runtime.service import service
from millrace.training.api import TrainingApi
from millrace.training.handlers import SUBSCRIPTIONS
from millrace.training.settings import Settings
from millrace.training.store import Store
from millrace.training.work import TASKS


async def main(settings: Settings) -> None:
    """Run the training service until SIGTERM, then drain."""
    async with service("training", settings) as training:
        begin = training.transactions(Store)
        training.collect(begin, Store.referred)
        training.subscribe(SUBSCRIPTIONS, begin, TASKS)
        training.serve(pb.DESCRIPTOR.services_by_name["TrainingService"], TrainingApi(), begin)
        await training.run()
