"""What observability does: keeps what runs and tasks took, and shows it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from millrace.contracts import SERVICES
from millrace.contracts.control import RunEvent
from millrace.contracts.event import Event
from millrace.contracts.held import KeyChange
from millrace.contracts.tasks import TaskOrder, TaskReport
from millrace.observability.commands import GetRunCost, GetSeries
from millrace.observability.domain import RunCost, Series, check_labels, run_cost, told
from millrace.observability.store import Store
from millrace.runtime.errors import InvalidInput
from millrace.runtime.subscriptions import Subscription, on_batch

MAX_POINTS = 10_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


async def keep_measures(events: Sequence[Event], tx: Store) -> None:
    """Keep what events tell of runs and tasks, and how late they were handled here."""
    tx.keep(told([(event, _told_at(event, tx)) for event in events], tx.now))


def _told_at(event: Event, tx: Store) -> datetime:
    envelope = tx.envelope_of(event)
    return envelope.emitted_at if envelope else tx.now


async def view_series(command: GetSeries, tx: Store) -> list[Series]:
    """Return a metric's series.

    Raises:
        InvalidInput: The metric has no such label, or there are too many points.
    """
    check_labels(command.metric, command.labels)
    start, end = command.start or EARLIEST, command.end or LATEST
    found = await tx.series(
        command.namespace, command.metric, start=start, end=end, labels=command.labels, limit=MAX_POINTS + 1
    )
    if sum(len(series.points) for series in found) > MAX_POINTS:
        raise InvalidInput(
            f"{command.metric} has more than {MAX_POINTS} points there: ask for a shorter time or name labels"
        )
    return found


async def view_run_cost(command: GetRunCost, tx: Store) -> RunCost:
    """Return what a run took and cost so far, at the price that held when it began.

    Raises:
        NotFound: Nothing was told of the run.
    """
    run, attempts = await tx.run(command.namespace, command.run_id)
    price = await tx.price((run and run.started_at) or tx.now)
    return run_cost(command.run_id, run, attempts, price, tx.now)


# One row for all topics: what one transaction settles is joined first and written once, in order of the keys.
SUBSCRIPTIONS = (
    on_batch(
        Event,
        keep_measures,
        start="earliest",
        topics=(
            RunEvent.topic,
            *(TaskReport.topic.format(service=service) for service in SERVICES),
            *(TaskOrder.topic.format(queue=service) for service in SERVICES),
            *(KeyChange.topic.format(service=service) for service in SERVICES),
        ),
    ),
)


def tasks_of(queue: str) -> tuple[Subscription, ...]:
    """Return the row by which what the tasks of a team's queue took is kept."""
    topics = [TaskOrder.topic.format(queue=queue), TaskReport.topic.format(service=queue)]
    return (on_batch(Event, keep_measures, topics=topics, start="earliest"),)
