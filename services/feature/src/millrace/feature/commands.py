"""What feature can be asked, checked once: declarations of views, spines, and what to do with them."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import yaml
from millrace.contracts.event import Namespace
from millrace.runtime.command import Command, faults
from millrace.runtime.errors import InvalidInput
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, field_validator, model_validator

MAX_VIEWS = 200
MAX_LISTED = 1000
MAX_YAML_CHARACTERS = 1_000_000
MAX_YAML_DEPTH = 50
MAX_ONLINE_ENTITIES = 10_000

_AGE = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RESERVED = frozenset({"t", "label", "event_time", "known_at", "effective_at", "rank"})

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A view's or feature's name."""

Column = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
"""A column of a dataset."""

Dataset = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,54}$")]
"""A dataset's name; in SQL it is the table of that name."""

Expression = Annotated[str, Field(min_length=1, max_length=4000)]
Sql = Annotated[str, Field(min_length=1, max_length=20_000)]


class Declared(BaseModel):
    """A part of a declaration: frozen, and what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Declared):
    """A dataset that a view reads.

    Attributes:
        dataset: Its name; `<dataset>` is the table of good rows, `<dataset>__all` has the quarantined ones too.
        partitions: Which partitions, seen from the one that values are wanted for: all `up_to` it in the order of
            their names, that one and those before it up to a number in all, or `all` there are (for datasets that are
            not cut in the same way).
    """

    dataset: Dataset
    partitions: Literal["up_to", "all"] | Annotated[int, Field(ge=1, le=1000)] = "up_to"


def _age(value: object) -> object:
    """Return a text such as `72h` as a time span."""
    if isinstance(value, str):
        found = _AGE.fullmatch(value)
        if not found:
            raise ValueError("a whole number and s, m, h or d, such as 72h")
        return timedelta(seconds=int(found[1]) * _UNIT_S[found[2]])
    return value


class View(Declared):
    """A feature view: what is known of an entity, and since when, as one SELECT over datasets.

    Attributes:
        name: How callers know it.
        entity: Key columns of the SELECT.
        sources: The datasets it reads; a plain name means all partitions up to the one that values are wanted for.
        sql: DuckDB SELECT that gives the entity's columns, the features, and what the two times are made of.
        event_time: Expression over the SELECT's columns: when what a row says came about; TIMESTAMPTZ.
        known_at: Likewise: since when the row could be known; TIMESTAMPTZ.
        features: Its columns of numbers.
        max_age: How long after its event time a row still holds; for ever when not given.
        online: Whether its newest rows are kept where requests look them up; else its features travel with a request.
    """

    name: Name
    entity: Annotated[tuple[Column, ...], Field(min_length=1, max_length=16)]
    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=16)]
    sql: Sql
    event_time: Expression = "event_time"
    known_at: Expression = "known_at"
    features: Annotated[tuple[Name, ...], Field(min_length=1, max_length=500)]
    max_age: Annotated[timedelta, PlainSerializer(lambda age: int(age.total_seconds()), return_type=int)] | None = None
    online: bool = False

    @field_validator("sources", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:  # noqa: ANN401 - raw input
        if isinstance(value, (list, tuple)):
            return [{"dataset": each} if isinstance(each, str) else each for each in value]
        return value

    @field_validator("max_age", mode="before")
    @classmethod
    def _span(cls, value: Any) -> Any:  # noqa: ANN401 - raw input
        return _age(value)

    @model_validator(mode="after")
    def _distinct(self) -> "View":
        names = [name.lower() for name in (*self.entity, *self.features)]
        if len(set(names)) < len(names):
            raise ValueError("a name stands twice among entity and features")
        if reserved := _RESERVED & set(names):
            raise ValueError(f"{', '.join(sorted(reserved))}: the engine's own names; take others")
        if len({source.dataset.lower() for source in self.sources}) < len(self.sources):
            raise ValueError("a source stands twice")
        if self.max_age is not None and self.max_age <= timedelta(0):
            raise ValueError("max_age must be longer than nothing")
        return self


class _Loader(yaml.SafeLoader):
    """YAML of bounded depth and without aliases: an alias in an alias is a small text and a huge document."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed; write the value out")
        if self.depth == MAX_YAML_DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {MAX_YAML_DEPTH}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_views(text: str) -> list[View]:
    """Return the views of a YAML stream, one document each.

    Raises:
        InvalidInput: It is no YAML, a view is not as it should be, or two have one name.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise InvalidInput(f"views are {len(text)} characters of YAML, more than {MAX_YAML_CHARACTERS}")
    try:
        found = yaml.load_all(text, Loader=_Loader)
        documents = [document for document in found if document is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidInput(f"views are no YAML: {' '.join(str(error).split())[:300]}") from None
    if not 1 <= len(documents) <= MAX_VIEWS:
        raise InvalidInput(f"{len(documents)} views given; 1 to {MAX_VIEWS} can be applied at once")
    views = list(_views(documents))
    names = [view.name for view in views]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"view {twice[0]} is given twice")
    return views


def _views(documents: list[Any]) -> Iterator[View]:
    for place, document in enumerate(documents):
        name = document.get("name", f"number {place + 1}") if isinstance(document, dict) else f"number {place + 1}"
        try:
            yield View.model_validate(document)
        except ValidationError as error:
            raise InvalidInput(f"view {str(name)[:80]}: {faults(error)}") from None


class Spine(Declared):
    """Which moments a training set asks about, and what came of each.

    Attributes:
        dataset: Each of its good rows is one moment.
        keys: Columns that the views' entities are found by.
        time: Expression: the moment, TIMESTAMPTZ; nothing that was known later is used.
        label: Expression: what came of it, a number.
        where: Condition for the rows that count.
        columns: Further columns to hand on.
    """

    dataset: Dataset
    keys: Annotated[tuple[Column, ...], Field(min_length=1, max_length=32)]
    time: Expression
    label: Expression
    where: Expression | None = None
    columns: Annotated[tuple[Column, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> "Spine":
        names = [name.lower() for name in (*self.keys, *self.columns)]
        if len(set(names)) < len(names):
            raise ValueError("a name stands twice among keys and columns")
        if reserved := _RESERVED & set(names):
            raise ValueError(f"{', '.join(sorted(reserved))}: the engine's own names; take others")
        return self


Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_VIEWS)]


class MaterialiseViews(Command):
    """Put the newest rows of views online.

    Attributes:
        views: Views declared `online: true`.
        up_to_partition: The last partition to read, of sources that are not read whole; the newest when not given.
        as_of: Rows known later are left out; when not given, what was known when the newest version read had landed.
    """

    views: Names
    up_to_partition: str | None = None
    as_of: datetime | None = None


class BuildTrainingSet(Command):
    """Ask views about every moment of a spine.

    Attributes:
        name: What the training set is for; part of its identity.
        partitions: The spine's partitions, by name; or
        up_to_partition: all of them up to this one, of which
        history: at most the last so many.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    spine: Spine
    views: Names
    partitions: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)] | None = None
    up_to_partition: str | None = None
    history: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "BuildTrainingSet":
        if self.partitions is not None and (self.up_to_partition is not None or self.history is not None):
            raise ValueError("name the partitions, or say up_to_partition and history")
        if len(set(self.views)) < len(self.views):
            raise ValueError("a view stands twice")
        return self


class ApplyViews(Command):
    """Put declarations of views in force."""

    namespace: Namespace
    views: Annotated[tuple[View, ...], Field(min_length=1, max_length=MAX_VIEWS)]


class ListViews(Command):
    """Show a page of the views in force, by name.

    Attributes:
        limit: At most; 0 for 100.
        after: Those whose names come after this one.
    """

    namespace: Namespace
    limit: Annotated[int, Field(ge=0, le=MAX_LISTED)] = 0
    after: Annotated[str, Field(max_length=64)] = ""


class ReadOnline(Command):
    """Look up the newest values of some entities.

    Attributes:
        entities: One mapping of key column to value each; a value is a text, a whole number or a truth value.
    """

    namespace: Namespace
    views: Names
    entities: Annotated[tuple[dict[str, str | bool | int | None], ...], Field(max_length=MAX_ONLINE_ENTITIES)]


class Compute(Command):
    """Compute features of given moments from given rows."""

    namespace: Namespace
    views: Names
