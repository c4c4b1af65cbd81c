"""Wiring."""

from functools import partial

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1 import worker_pb2 as worker_pb
from millrace.control.api import ControlApi
from millrace.control.api.workers import WorkerApi
from millrace.control.clock import APPLIED, Clock, Health, Queues, Topics
from millrace.control.clock.retention import rules
from millrace.control.handlers import SUBSCRIPTIONS, reports_of, take_records
from millrace.control.settings import Settings
from millrace.control.store import Store
from millrace.runtime.service import service
from millrace.runtime.topics import topic_names


async def main(settings: Settings) -> None:
    """Run control until SIGTERM, then drain."""
    async with service("control", settings) as control:
        begin = control.transactions(Store)
        topics = Topics(begin, settings.sources_poll_s, partial(topic_names, settings.kafka_servers))
        await topics.look()
        control.subscribe(SUBSCRIPTIONS, begin)

        def take(queue: str) -> None:
            control.subscribe([reports_of(queue)], begin)

        queues = Queues(begin, settings.kafka_servers, take)
        await queues.take_up()
        control.listen(topics.earliest, take_records, begin, start="earliest")
        control.listen(topics.latest, take_records, begin, start="now")
        control.serve(pb.DESCRIPTOR.services_by_name["ControlService"], ControlApi(), begin)
        control.serve(worker_pb.DESCRIPTOR.services_by_name["WorkerService"], WorkerApi(), begin)
        control.housekeep(*rules(settings.run_retention, settings.event_retention, begin))
        control.database.listeners[APPLIED] = partial(Store.signals.due_in, 0.0)
        clock = Clock(begin, settings.clock_poll_s, topics.told, queues.told)
        control.background(clock.run, Health(begin).run, topics.run, queues.run)
        await control.run()
