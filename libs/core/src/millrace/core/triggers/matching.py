"""Which triggers take an event: those that an index finds, then those whose conditions hold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

from millrace.core.expression import ExpressionFailed, compile_condition
from millrace.core.parts import MAX_KEY_CHARS
from millrace.core.pointer import PointerMissing, parse_pointer, resolve
from millrace.core.triggers.ir import Interest, Partitions, Trigger
from millrace.core.triggers.partitions import period_of
from millrace.core.triggers.sources import TRIGGER_VARIABLES, Filter, Source
from pydantic import JsonValue

MAX_DEDUPE_CHARS = 1_024


@dataclass(frozen=True, slots=True)
class Event:
    """An event from outside, whatever form it came in."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: JsonValue

    def document(self) -> dict[str, Any]:
        """Return it as conditions and pointers see it."""
        # Its data is no copy: `asdict` goes through all of that.
        return {name: getattr(self, name) for name in _PARTS}


_PARTS = tuple(field.name for field in fields(Event))


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a trigger takes an event.

    Attributes:
        dedupe_key: Two taken events with the same key start one run.
        reason: Why it is not taken; empty if it is.
        key: The events with the same key wait for one another.
        slot: Which of those that a join waits for it is: a member's name, a partition, or both.
        error: What of it could not be told of the event, so that it is not taken; empty where it is for other ones.
    """

    taken: bool
    reason: str = ""
    dedupe_key: str = ""
    key: str = ""
    slot: str = ""
    error: str = ""


class Rule(Protocol):
    """A trigger in force."""

    @property
    def namespace(self) -> str:
        """Whose it is."""

    @property
    def trigger(self) -> Trigger:
        """What it says."""


R = TypeVar("R", bound=Rule)


class _Refused(Exception):
    """Why an event is not taken."""


class _Unclear(_Refused):
    """What could not be told of an event, whether it is meant or not."""


def match(trigger: Trigger, event: Event, topic: str | None = None) -> Match:
    """Return whether `trigger` takes `event`, and if not, which part of it did not hold.

    Args:
        trigger: It may have several members: the first that takes the event is told.
        event: What came.
        topic: Where it came from; None where that is known to fit.
    """
    document, refusals, unclear = event.document(), list[str](), list[str]()
    for interest in trigger.interests():
        try:
            _check(interest, topic, event, document)
            return _taken(trigger, interest, event, document)
        except _Refused as refused:
            refusals.append(f"{interest.name}: {refused}" if interest.name else str(refused))
            if isinstance(refused, _Unclear):
                unclear.append(refusals[-1])
    return Match(taken=False, reason="; ".join(refusals), error="; ".join(unclear))


def _check(interest: Interest, topic: str | None, event: Event, document: Mapping[str, Any]) -> None:
    when = interest.when
    if topic is not None and not interest.source.reads(topic):
        raise _Refused(f"it came on {topic}; the trigger reads {interest.source.topic}")
    for part, text in interest.filter:
        if text is not None and not _fits(text, found := getattr(event, part)):
            raise _Refused(f"its {part} is {found!r}; the trigger wants {text!r}")
    if when is not None:
        condition = compile_condition(when, TRIGGER_VARIABLES)
        try:
            holds = condition.holds({"trigger": document})
        except ExpressionFailed as error:
            raise _Unclear(str(error)) from error
        if not holds:
            raise _Refused(f"{when!r} is false for it")


def _fits(wanted: str, found: str) -> bool:
    return found.startswith(wanted[:-1]) if wanted.endswith("*") else found == wanted


def _taken(trigger: Trigger, interest: Interest, event: Event, document: Mapping[str, Any]) -> Match:
    name, key = interest.name, interest.key
    dedupe_key = f"{event.source} {event.id}"
    if trigger.dedupe is not None:
        dedupe_key = _text_at(trigger.dedupe, document, "dedupe key", MAX_DEDUPE_CHARS)
    own = _text_at(key, document, "key") if key is not None else ""
    partitions = trigger.join.partitions if trigger.join else None
    if partitions is None:
        return Match(taken=True, dedupe_key=dedupe_key, key=own, slot=name)
    part, period = _partition(partitions, document)
    return Match(taken=True, dedupe_key=dedupe_key, key=joined(own, period), slot=joined(name, part))


def joined(name: str, part: str) -> str:
    """Return two parts of a key, or of a slot, as one; either may be empty."""
    return "/".join(filter(None, (name, part)))


def _partition(partitions: Partitions, document: Mapping[str, Any]) -> tuple[str, str]:
    part = _text_at(partitions.at, document, "partition")
    try:
        return part, period_of(part, partitions.each, partitions.per)
    except ValueError as error:
        raise _Unclear(f"its partition at {partitions.at}: {error}") from error


def _text_at(pointer: str, document: Mapping[str, Any], what: str, most: int = MAX_KEY_CHARS) -> str:
    try:
        found = resolve(document, parse_pointer(pointer))
    except PointerMissing as error:
        raise _Unclear(f"it has no {what}: {error}") from error
    try:
        return key_text(found, most)
    except ValueError as error:
        raise _Unclear(f"its {what} at {pointer} {error}") from error


def key_text(found: Any, most: int = MAX_KEY_CHARS) -> str:  # noqa: ANN401 - a JSON value
    """Return what stands for a value in a key.

    Raises:
        ValueError: It cannot be one.
    """
    if isinstance(found, dict | list) or found is None:
        raise ValueError("is not text, a number or a boolean")
    if len(text := str(found)) > most:
        raise ValueError(f"has {len(text)} characters; at most {most} are read")
    return text


class Index(Generic[R]):
    """Triggers by what their events must be: how many do not take an event costs nothing.

    What is looked up per event are the lengths of prefixes, of which there are few, not triggers.
    """

    def __init__(self, rules: Iterable[R]) -> None:
        self._by_topic: dict[tuple[str, str], _Level[R]] = {}
        self._patterns: dict[str, dict[str, tuple[Source, _Level[R]]]] = {}
        for rule in rules:
            for interest in rule.trigger.interests():
                self._add(rule, interest.source, interest.filter)
        self._found: dict[tuple[str, str], tuple[_Level[R], ...]] = {}

    def candidates(self, namespace: str, topic: str, event: Event) -> Sequence[R]:
        """Return the triggers whose topic, type, source and subject an event has, each once, by name."""
        found: dict[str, R] = {}
        for level in self._levels(namespace, topic):
            for rule in level.find((event.type, event.source, event.subject)):
                found[rule.trigger.name] = rule
        return [found[name] for name in sorted(found)]

    def _add(self, rule: R, source: Source, wanted: Filter) -> None:
        if source.is_pattern:
            patterns = self._patterns.setdefault(rule.namespace, {})
            _, level = patterns.setdefault(source.topic, (source, _Level()))
        else:
            level = self._by_topic.setdefault((rule.namespace, source.topic), _Level())
        level.add((wanted.type, wanted.source, wanted.subject), rule)

    def _levels(self, namespace: str, topic: str) -> tuple["_Level[R]", ...]:
        # Which patterns a topic fits is looked up once for each topic that is read.
        place = (namespace, topic)
        if place not in self._found:
            fitting = (level for source, level in self._patterns.get(namespace, {}).values() if source.reads(topic))
            named = self._by_topic.get(place)
            self._found[place] = (*((named,) if named else ()), *fitting)
        return self._found[place]


class _Level(Generic[R]):
    """One of the parts that an event must have: what is wanted exactly, by prefix, or not at all."""

    def __init__(self) -> None:
        self._exact: dict[str, _Level[R]] = {}
        self._prefixes: dict[int, dict[str, _Level[R]]] = {}
        self._any: _Level[R] | None = None
        self._rules: list[R] = []

    def add(self, wanted: tuple[str | None, ...], rule: R) -> None:
        """Put a rule under the parts that it wants."""
        if not wanted:
            self._rules.append(rule)
            return
        first, *rest = wanted
        if first is None:
            self._any = below = self._any or _Level()
        elif first.endswith("*"):
            below = self._prefixes.setdefault(len(first) - 1, {}).setdefault(first[:-1], _Level())
        else:
            below = self._exact.setdefault(first, _Level())
        below.add(tuple(rest), rule)

    def find(self, parts: tuple[str, ...]) -> Iterator[R]:
        """Yield the rules whose parts these are."""
        if not parts:
            yield from self._rules
            return
        first, *rest = parts
        below = [self._exact.get(first), self._any]
        below += [named.get(first[:length]) for length, named in self._prefixes.items()]
        for level in below:
            if level is not None:
                yield from level.find(tuple(rest))


def reader_of(topic: str, sources: Iterable[Source]) -> Source | None:
    """Return the source that says how a topic's records are read: what names it, or the longest pattern that does."""
    fitting = [source for source in sources if source.reads(topic)]
    return min(fitting, key=lambda source: (source.is_pattern, -len(source.topic), source.topic), default=None)
