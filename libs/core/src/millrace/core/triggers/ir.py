"""Triggers as they are written: which events start runs of what, when, and together with which."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self

from millrace.core.errors import InvalidDocument, Problem, problems_of
from millrace.core.expression import compile_condition
from millrace.core.parse import TRIGGER_FIELDS, no_trigger_field
from millrace.core.parts import DAY_S, MAX_WAIT_S, NAME, TRIGGER_NAME, WORKFLOW_NAME, Part
from millrace.core.triggers.partitions import DAYS, MOST_PARTS
from millrace.core.triggers.sources import TRIGGER_VARIABLES, Filter, Source, check_condition, check_pointer
from pydantic import Field, JsonValue, ValidationError, model_validator

#: What conditions on an event may read; that there is a `schedule` is told to runs only.
EVENT_FIELDS = tuple(field for field in TRIGGER_FIELDS if field != "schedule")
MAX_MEMBERS = 1_000
"""The most events that wait for one another."""

Seconds = Annotated[float, Field(gt=0, le=MAX_WAIT_S)]
Strategy = Literal["parallel", "queue", "first_only", "latest_only", "cancel_in_progress", "strict_sequence"]


class Member(Part):
    """One of the events that a join waits for.

    Attributes:
        name: What it is called in `/trigger/data/members`.
        source: Where it comes from; the trigger's own source when it is not given.
        when: CEL over `trigger`, as a trigger's.
        key: Where its key is; the trigger's `key` when it is not given.
    """

    name: Annotated[str, Field(pattern=NAME)]
    source: Source | None = None
    filter: Filter = Filter()
    when: str | None = None
    key: str | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        check_condition(self.when)
        check_pointer(self.key)
        return self


class Partitions(Part):
    """Which partitions make up a larger one, such as the days of a month: a join waits for all of them.

    Attributes:
        each: What an event's partition is: an `hour` (2026-03-29T07), a `day` (2026-03-29) or a `month` (2026-03).
        per: What they make up: a `day`, `week` (2026-W13), `month` or `year`; it is part of the join's key.
        at: Pointer to the partition in the event.
    """

    each: Literal["hour", "day", "month"]
    per: Literal["day", "week", "month", "year"]
    at: str = "/data/partition"

    @model_validator(mode="after")
    def _makes_up(self) -> Self:
        check_pointer(self.at)
        if (self.each, self.per) not in MOST_PARTS:
            known = ", ".join(per for each, per in MOST_PARTS if each == self.each)
            raise ValueError(f"{self.each}s are not joined to a {self.per}; they are to a {known}")
        return self


class Join(Part):
    """Events that start one run together.

    Attributes:
        of: `all` of the members, `any` of them, `n_of` them, or all in the order of their times (`sequence`).
        n: With `n_of`: how many.
        members: What it waits for; with `partitions`, each of them of each partition.
        window_s: How long the first of them waits for the others. Where it is not given, that is a day, and with
            `partitions` twice what they make up, a year at most: the first day of a month waits for the last.
        missing: What happens then: `expire`, or `fire_partial` with those that came.
        again: What becomes of another event of a member that is there already: it waits for the `next` run, or
            `replace`s the one before (the newer by its time stands). With partitions the default is `replace`.
    """

    of: Literal["all", "any", "n_of", "sequence"] = "all"
    n: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] | None = None
    members: Annotated[tuple[Member, ...], Field(max_length=100)] = ()
    partitions: Partitions | None = None
    window_s: Seconds | None = None
    missing: Literal["expire", "fire_partial"] = "expire"
    again: Literal["next", "replace"] | None = None

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError("two members have the same name")
        if not self.partitions and len(names) < 2:  # noqa: PLR2004 - one is no join
            raise ValueError("a join has at least two `members`, or `partitions`")
        if (self.of == "n_of") != (self.n is not None):
            raise ValueError("`n` is for `of: n_of`, which needs it")
        if self.of == "sequence" and (self.partitions or self.again):
            raise ValueError("a sequence has neither `partitions` nor `again`")
        parts = MOST_PARTS[self.partitions.each, self.partitions.per] if self.partitions else 1
        most = parts * max(1, len(names))
        if most > MAX_MEMBERS:
            raise ValueError(f"it waits for up to {most} events, more than {MAX_MEMBERS}")
        if self.n is not None and self.n > most:
            raise ValueError(f"n is {self.n}, more than the {most} that may come")
        return self

    @property
    def waits_s(self) -> float:
        """How long the first of them waits for the others, seconds."""
        if self.window_s is not None:
            return self.window_s
        return min(MAX_WAIT_S, 2 * DAYS[self.partitions.per] * DAY_S if self.partitions else DAY_S)

    @property
    def replaces(self) -> bool:
        """Whether a newer event of a member stands in the place of the one before."""
        return self.again == "replace" or (self.again is None and self.partitions is not None)


class Batch(Part):
    """How many events one run gets at most, and how long the first of them waits, seconds."""

    size: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 100
    within_s: Seconds = 60.0


class Debounce(Part):
    """How long nothing must have come before a run starts, and how long the first event waits at most, seconds."""

    quiet_s: Seconds
    at_most_s: Seconds | None = None


class Throttle(Part):
    """At most so many runs begin in so many seconds; the others wait.

    Attributes:
        burst: How many may begin at once after a pause; `runs` when it is not given.
    """

    runs: Annotated[int, Field(ge=1, le=1_000_000)]
    per_s: Seconds = 1.0
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class Trigger(Part):
    """A rule that starts runs of `workflow` for the events that it takes, or hands them to tasks that wait for them.

    Attributes:
        workflow: What it starts. Without one it starts nothing: each event is for the tasks whose `wait.event` names
            it, under its key: for all that wait when it comes, or else for those that do so first afterwards.
        source: Where its events come from; a topic has one source in a namespace, shared by its triggers. It may be
            left out where each member of a join has its own.
        when: CEL over `trigger`; an event for which it is false is not taken.
        dedupe: Pointer into the event; events with the same value start one run. Default: its source and id.
        key: Pointer into the event; those with the same value are joined, batched or debounced, or are what a task
            waits for. Default: all.
        keep_s: Without a workflow: how long an event is kept that no task waits for yet. Default: a day.
        join: Events that start one run together.
        mode: Which of the events a run gets: each has its own (`per_event`), the newest of those that wait
            (`latest`), or all of some (`batch`).
        strategy: What becomes of a run while another of the trigger is under way. `parallel`: both are. `queue`: one
            at a time, in order. `first_only`: none starts. `latest_only`: of those that wait, the newest.
            `cancel_in_progress`: the one before is cancelled. `strict_sequence`: one at a time, and none behind one
            that has failed until somebody says so.
        limit: With `parallel`: how many may be under way; the others wait.
        paused: It starts nothing.
        on_paused: What becomes of events meanwhile: `queue` them for when it goes on, or `drop` them.
    """

    name: Annotated[str, Field(pattern=TRIGGER_NAME)]
    workflow: Annotated[str, Field(pattern=WORKFLOW_NAME)] | None = None
    source: Source | None = None
    filter: Filter = Filter()
    when: str | None = None
    dedupe: str | None = None
    key: str | None = None
    keep_s: Seconds | None = None
    join: Join | None = None
    mode: Literal["per_event", "latest", "batch"] = "per_event"
    batch: Batch | None = None
    debounce: Debounce | None = None
    throttle: Throttle | None = None
    strategy: Strategy = "parallel"
    limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    paused: bool = False
    on_paused: Literal["queue", "drop"] = "queue"

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        check_condition(self.when)
        for field in ("dedupe", "key"):
            check_pointer(getattr(self, field), field)
        members = self._written_members()
        if self.source is None and (not members or any(member.source is None for member in members)):
            raise ValueError("source: is missing; only a join each of whose members has one needs none")
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if self.limit is not None and self.strategy != "parallel":
            raise ValueError(f"`limit` is for strategy parallel; with {self.strategy} one run is under way")
        if self._written_members() and (self.when is not None or self.filter != Filter()):
            raise ValueError("`filter` and `when` stand with each member of a join")
        if self.join and (self.mode != "per_event" or self.batch or self.debounce):
            raise ValueError("a join has no `mode`, `batch` or `debounce`: its run gets all of its members")
        if self.mode != "batch" and self.batch:
            raise ValueError("`batch` is for mode batch")
        if self.mode == "per_event" and self.debounce:
            raise ValueError("`debounce` makes one run of several events: say mode latest or batch")
        if self.key is not None and not self.gathers:
            raise ValueError("`key` is for a join, a batch or a debounce, or for a trigger without a `workflow`")
        if self.keep_s is not None and self.workflow is not None:
            raise ValueError("`keep_s` is for a trigger without a `workflow`, whose events tasks wait for")
        fields = type(self).model_fields
        said = [name for name in _OF_RUNS if getattr(self, name) != fields[name].default]
        if self.workflow is None and said:
            told = "a trigger without a `workflow` hands each event to tasks, and has none of these"
            raise ValueError(f"{', '.join(said)}: {told}")
        return self

    def _written_members(self) -> tuple[Member, ...]:
        return self.join.members if self.join else ()

    @property
    def gathers(self) -> bool:
        """Whether events wait, for others before they start a run, or for tasks."""
        return bool(self.join or self.debounce or self.mode == "batch" or self.workflow is None)

    @property
    def keeps_s(self) -> float:
        """How long an event is kept that no task waits for yet, seconds."""
        return self.keep_s if self.keep_s is not None else DAY_S

    def interests(self) -> tuple["Interest", ...]:
        """Return what it listens for: each member of a join, or itself."""
        members = [
            Interest(one.name, source, one.filter, one.when, one.key or self.key)
            for one in self._written_members()
            if (source := one.source or self.source) is not None
        ]
        if members or self.source is None:
            return tuple(members)
        return (Interest("", self.source, self.filter, self.when, self.key),)

    def sources(self) -> tuple[Source, ...]:
        """Return where its events come from, each topic once."""
        return tuple({one.source.topic: one.source for one in self.interests()}.values())

    def document(self) -> dict[str, Any]:
        """Return it as JSON, without what it says anyway."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def shape(self) -> "Trigger":
        """Return what decides which events wait for which: where it differs, those that wait do so by the old one."""
        fields = ("join", "mode", "batch", "debounce", "key")
        return self.model_construct(**{name: getattr(self, name) for name in fields})


_OF_RUNS = ("join", "mode", "batch", "debounce", "throttle", "strategy", "limit")


class Interest(NamedTuple):
    """What one member of a join, or a trigger without one, listens for."""

    name: str
    source: Source
    filter: Filter
    when: str | None
    key: str | None


def parse_trigger(document: JsonValue) -> Trigger:
    """Return the trigger that a JSON document describes.

    Raises:
        InvalidDocument: It is not one; each problem names its field.
    """
    try:
        trigger = Trigger.model_validate(document)
    except ValidationError as error:
        raise InvalidDocument("trigger", problems_of(error, KNOWN_FIELDS)) from error
    # Not of a trigger that is in force, which goes on as it began.
    if problems := [*_unknown_fields(trigger)]:
        raise InvalidDocument(f"trigger {trigger.name}", problems)
    return trigger


def _unknown_fields(trigger: Trigger) -> Iterator[Problem]:
    members = trigger.join.members if trigger.join else ()
    conditions = [("when", trigger.when), *((f"join.members.{n}.when", one.when) for n, one in enumerate(members))]
    for field, text in conditions:
        if text is not None:
            read = compile_condition(text, TRIGGER_VARIABLES).members
            said = (no_trigger_field(name, EVENT_FIELDS) for _, name in sorted(read))
            yield from (Problem(field, told) for told in said if told)


KNOWN_FIELDS = f"{', '.join(Trigger.model_fields)}; " + "; ".join(
    f"of {part.__name__.lower()} {', '.join(part.model_fields)}"
    for part in (Source, Filter, Join, Member, Partitions, Batch, Debounce, Throttle)
)
