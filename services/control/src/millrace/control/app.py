"""Wiring."""

from datetime import timedelta
from functools import partial

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.rpc.control.v1 import worker_pb2 as worker_pb
from millrace.control.api import ControlApi
from millrace.control.api.workers import WorkerApi
from millrace.control.clock import APPLIED, Clock, Health, Queues, Topics
from millrace.control.domain.archive import width_of
from millrace.control.handlers import SUBSCRIPTIONS, reports_of, take_records
from millrace.control.settings import Settings
from millrace.control.store import Store
from millrace.runtime.housekeeping import older_than
from millrace.runtime.service import service
from millrace.runtime.topics import topic_names

LEASE_RETENTION = timedelta(days=1)
"""How long it is known of a leased attempt that its worker has said how it ended: longer than one goes on saying it."""

ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a run that has ended stays among those that go on: nothing that is said of its tasks comes later."""


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
        control.housekeep(
            older_than(
                min(ARCHIVE_AFTER, settings.run_retention),
                "run_archived",
                partial(Store.archive_runs, width=width_of(settings.run_retention)),
                begin,
            ),
            older_than(settings.event_retention, "event", Store.forget_events, begin),
            older_than(settings.event_retention, "trigger_version", Store.forget_versions, begin),
            older_than(settings.run_retention, "schedule_fire", Store.forget_fires, begin),
            older_than(LEASE_RETENTION, "task_lease", Store.forget_leases, begin),
            older_than(timedelta(), "result", Store.forget_results, begin),
            older_than(timedelta(), "mail", Store.forget_mail, begin),
            older_than(settings.run_retention, "run", Store.drop_archive, begin),
        )
        control.database.listeners[APPLIED] = partial(Store.signals.due_in, 0.0)
        clock = Clock(begin, settings.clock_poll_s, topics.told, queues.told)
        control.background(clock.run, Health(begin).run, topics.run, queues.run)
        await control.run()
