"""Claims about events, runs, tasks and answers."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.faults.facts import Facts, event_of, once
from tests.faults.finding import Finding, Kind
from tests.journeys.shop import ENDED

ONE_RUN = "each acknowledged event led to exactly one run or a recorded refusal"
ENDS = "every run ends, once"
REFUSED = "an event that was refused each time led to no run"
DONE = "what is asked for is done: an event starts a run, and a run succeeds"
TASKS = "a task is done once"
ORDER = "facts of a key are told in order, without a gap"
ANSWERS = "a request that is asked twice gets the same answer"
READS = "what has ended stays as it ended"
PREDICTIONS = "each answer of a model has an id of its own"
TOLD = "an event is told once while nobody dies"
#: Kinds of tasks that control does by itself.
NO_WORK = frozenset({"end", "wait"})
END_TOLD = {
    "RunSucceeded": "succeeded",
    "RunRefused": "refused",
    "RunFailed": "failed",
    "RunCancelled": "cancelled",
}


def one_run(facts: Facts) -> Iterator[Finding]:
    """Each acknowledged event led to exactly one run, or to a refusal that is on record."""
    acknowledged = {entry.key for entry in facts.history if entry.op == "trigger" and entry.outcome == "ok"}
    runs: dict[str, set[str]] = defaultdict(set)
    for run in facts.runs.values():
        runs[event_of(run)].add(run.run_id)
    runs.pop("", None)
    for event, explained in facts.explained.items():
        runs[event] |= {match.run_id for match in explained.matches if match.run_id}
        if event in acknowledged and not explained.received:
            yield Finding(ONE_RUN, "lost", f"event {event} was acknowledged and never received")
        elif event in acknowledged and not runs[event] and not explained.matches:
            yield Finding(ONE_RUN, "lost", f"event {event} was acknowledged and nothing came of it")
    for event in sorted(acknowledged - set(facts.explained)):
        yield Finding(ONE_RUN, "lost", f"event {event} was acknowledged and nobody knows it")
    for event, known in runs.items():
        if len(known) > 1:
            yield Finding(ONE_RUN, "doubled", f"{event} has runs {sorted(known)}")


def refused_has_no_run(facts: Facts) -> Iterator[Finding]:
    """Who is told each time that an event is not taken may count on it: nothing comes of it."""
    outcomes: dict[str, set[str]] = defaultdict(set)
    for entry in facts.history:
        if entry.op == "trigger":
            outcomes[entry.key].add(entry.outcome)
    started = {event_of(run) for run in facts.runs.values()}
    started |= {event for event, one in facts.explained.items() if any(match.run_id for match in one.matches)}
    for event in sorted(event for event, seen in outcomes.items() if seen - {"invoke"} == {"fail"}):
        if event in started:
            yield Finding(REFUSED, "changed", f"event {event} was refused and has a run")


def every_run_ends(facts: Facts) -> Iterator[Finding]:
    """Every run that began is over; its begin and its end were told once, the end as it is."""
    begins: Counter[str] = Counter()
    ends: dict[str, list[str]] = defaultdict(list)
    for one in once(facts.told):
        if one.type == "RunStarted":
            begins[str(one.value["run_id"])] += 1
        elif one.type in END_TOLD:
            ends[str(one.value["run_id"])].append(END_TOLD[one.type])
    for run in facts.runs.values():
        if run.state not in ENDED:
            yield Finding(ENDS, "open", f"run {run.run_id} is {run.state}")
        elif ends[run.run_id] != [run.state]:
            kind: Kind = "doubled" if len(ends[run.run_id]) > 1 else "lost"
            yield Finding(ENDS, kind, f"run {run.run_id} is {run.state}, told {ends[run.run_id]}")
        if begins[run.run_id] != 1:
            kind = "doubled" if begins[run.run_id] else "lost"
            yield Finding(ENDS, kind, f"the begin of run {run.run_id} was told {begins[run.run_id]} times")


def every_run_succeeds(facts: Facts) -> Iterator[Finding]:
    """Each acknowledged event started a run, and each run succeeded.

    The load asks for nothing else, and its retries are patient; what a row ends otherwise, it expects.
    """
    acknowledged = {entry.key for entry in facts.history if entry.op == "trigger" and entry.outcome == "ok"}
    with_a_run = {event_of(run) for run in facts.runs.values()}
    for event, explained in facts.explained.items():
        runs = [match.run_id for match in explained.matches if match.run_id]
        if event in acknowledged - with_a_run and explained.matches and not runs:
            said = {match.trigger: match.disposition for match in explained.matches}
            yield Finding(DONE, "failed", f"event {event} started no run: {said}")
    for run in facts.runs.values():
        if run.state in ENDED and run.state != "succeeded":
            detail = f"run {run.run_id} of {event_of(run)} is {run.state}: {run.cause}"
            yield Finding(DONE, "failed", detail, run.run_id)


def tasks_once(facts: Facts) -> Iterator[Finding]:
    """A task succeeded once, and was told to where its run counts on it."""
    done = Counter(one.key for one in once(facts.told) if one.type == "TaskSucceeded")
    for task_id, count in done.items():
        if count > 1:
            yield Finding(TASKS, "doubled", f"task {task_id} succeeded {count} times")
    for run in facts.runs.values():
        for task in run.tasks:
            if task.kind not in NO_WORK and task.state == "succeeded" and not done[task.task_id]:
                yield Finding(TASKS, "lost", f"{task.name} of run {run.run_id} succeeded and was not told to")


def in_order(facts: Facts) -> Iterator[Finding]:
    """The versions of a key are told in order without a gap, from the first that is seen."""
    streams: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in once(facts.everybody):
        if one.sequence:
            streams[one.topic, one.key].append(one.sequence)
    for (topic, key), numbers in streams.items():
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            yield Finding(ORDER, _wrong(numbers), f"{topic} {key}: {numbers[:20]}")


def _wrong(numbers: list[int]) -> Kind:
    if len(set(numbers)) < len(numbers):
        return "doubled"
    return "lost" if sorted(numbers) == numbers else "disordered"


def same_answer(facts: Facts) -> Iterator[Finding]:
    """A request with the same id got the same answer, however often it was asked."""
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in facts.history:
        if entry.op == "start" and entry.outcome == "ok":
            answers[entry.op, entry.key].add(str(entry.value))
    for (op, key), found in answers.items():
        if len(found) > 1:
            yield Finding(ANSWERS, "doubled", f"{op} {key} was answered with {sorted(found)}")


def stays_ended(facts: Facts) -> Iterator[Finding]:
    """A run that was read as ended is read as that ever after."""
    ended: dict[str, str] = {}
    for entry in facts.history:
        if entry.op != "read" or entry.outcome != "ok":
            continue
        state = str(entry.value)
        if ended.get(entry.key, state) != state:
            yield Finding(READS, "changed", f"run {entry.key} was {ended[entry.key]} and then {state}")
        if state in ENDED:
            ended[entry.key] = state
    for run_id, state in ended.items():
        if run_id in facts.runs and facts.runs[run_id].state != state:
            yield Finding(READS, "changed", f"run {run_id} was {state} and then {facts.runs[run_id].state}")


def predictions_apart(facts: Facts) -> Iterator[Finding]:
    """No two requests got the same prediction id."""
    ids = Counter(entry.value for entry in facts.history if entry.op == "predict" and entry.outcome == "ok")
    for prediction_id, count in ids.items():
        if count > 1:
            yield Finding(PREDICTIONS, "doubled", f"prediction {prediction_id} was given {count} times")


def told_once(facts: Facts) -> Iterator[Finding]:
    """No event was sent again; holds only where no relay died, which then cannot know what had arrived."""
    for event_id, count in Counter(one.event_id for one in facts.told).items():
        if count > 1:
            yield Finding(TOLD, "doubled", f"event {event_id} was told {count} times")
