"""What views say, as it was known: joined to a spine, or the newest per entity."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import pyarrow as pa
from millrace.feature.commands import Spine, View
from millrace.feature.engine.sandbox import ALL, Bounds, Sandbox, Table, literal, quoted, sandbox
from millrace.feature.engine.statement import tables_of
from millrace.runtime.errors import InvalidInput

PLACE = "__place"
SPINE = "__spine"
ROWS = "__rows"
DECLARED = "__declared"
TIME = "TIMESTAMP WITH TIME ZONE"


def check_view(view: View) -> frozenset[str]:
    """Return the tables that a view's SQL reads, in lower case.

    Raises:
        InvalidInput: The SQL may not run, or reads what the view does not name as a source.
    """
    allowed = {name for source in view.sources for name in (source.dataset.lower(), source.dataset.lower() + ALL)}
    return _within(tables_of(_declared(view)), allowed, f"view {view.name}")


def check_spine(spine: Spine) -> None:
    """Check that a spine's expressions may run, and read nothing but its dataset.

    Raises:
        InvalidInput: They may not.
    """
    _within(tables_of(_moments(spine)), {spine.dataset.lower()}, f"spine of {spine.dataset}")


def spine_rows(spine: Spine, table: Table, bounds: Bounds) -> pa.Table:
    """Return a spine's moments in the order of time: keys, columns, `t` (us, UTC) and `label` (DOUBLE).

    Raises:
        InvalidInput: The expressions fail, or a row has no time or no label.
    """
    check_spine(spine)
    with sandbox({spine.dataset: table}, bounds) as box:
        box.run(f"CREATE TEMP TABLE {ROWS} AS {_moments(spine)}")
        _need_time(box.columns(ROWS), "t", f"spine of {spine.dataset}")
        order = ", ".join(quoted(name) for name in ("t", *spine.keys, *spine.columns, "label"))
        rows = box.rows(f"SELECT * FROM {ROWS} ORDER BY {order}")
    for name in ("t", "label"):
        if missing := rows.column(name).null_count:
            raise InvalidInput(f"spine of {spine.dataset}: {missing} rows have no {name}; leave them out by `where`")
    return rows


def as_known(view: View, spine: pa.Table, tables: Mapping[str, Table], bounds: Bounds) -> pa.Table:
    """Return a view's features as they were known at each of the spine's moments.

    Among the entity's rows with event_time <= t and known_at <= t it is the one with the greatest (event_time,
    known_at); nothing where there is none, or where that one is older than the view's max_age.

    Args:
        view: What to ask.
        spine: Rows with the entity's columns and `t`, timestamp[us, UTC].
        tables: The view's sources.
        bounds: What the sandbox may take.

    Returns:
        As many rows as the spine, in its order; one DOUBLE column per feature, called `view.feature`.

    Raises:
        InvalidInput: The SQL fails, or the spine lacks a column.
    """
    asked = _asked(view, spine)
    with _known_rows(view, tables, bounds) as box:
        box.add(SPINE, asked)
        found = box.rows(_JOIN.format(
            features=", ".join(f"{_in_time(view, name)} AS {quoted(f'{view.name}.{name}')}" for name in view.features),
            spine=SPINE,
            leaders=_leaders(view),
            on=" AND ".join(f"s.{quoted(name)} = r.{quoted(name)}" for name in view.entity),
            place=PLACE,
        ))  # fmt: skip
    if found.num_rows != spine.num_rows:
        raise InvalidInput(f"view {view.name}: {found.num_rows} rows for {spine.num_rows} moments")
    return found


def newest(view: View, as_of: datetime, tables: Mapping[str, Table], bounds: Bounds) -> pa.Table:
    """Return a view's newest known row per entity: `key` (list of texts) and one DOUBLE column per feature.

    Raises:
        InvalidInput: The SQL fails.
    """
    moment = f"TIMESTAMPTZ {literal(as_of.isoformat())}"
    key = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in view.entity)
    in_time = f"epoch_us({moment}) - epoch_us(event_time) <= {_max_age_us(view)}" if view.max_age else "true"
    with _known_rows(view, tables, bounds) as box:
        return box.rows(
            f"SELECT [{key}] AS key, {', '.join(quoted(name) for name in view.features)} FROM ("
            f" SELECT * FROM (SELECT *, {_rank(view)} AS rank FROM {ROWS}"
            f"  WHERE greatest(event_time, known_at) <= {moment})"
            f" QUALIFY rank = max(rank) OVER (PARTITION BY {_entity(view)})"
            f") WHERE {in_time} ORDER BY key"
        )


_JOIN = """
WITH leader AS ({leaders})
SELECT {features} FROM {spine} s ASOF LEFT JOIN leader r ON {on} AND s.t >= r.effective_at ORDER BY s.{place}
"""


def _leaders(view: View) -> str:
    """Return the SELECT of the rows that were, from `effective_at` on, the entity's newest known ones.

    A row counts from when it had both happened and become known. It leads if no row that counted by then is newer.
    """
    return (
        f"SELECT * FROM (SELECT *, greatest(event_time, known_at) AS effective_at, {_rank(view)} AS rank FROM {ROWS})"
        f" QUALIFY rank = max(rank) OVER (PARTITION BY {_entity(view)} ORDER BY effective_at)"
    )


def _rank(view: View) -> str:
    """Return each row's place among its entity's: the newest last, ties in the order of their values."""
    values = ", ".join(f"{quoted(name)} NULLS FIRST" for name in view.features)
    return f"row_number() OVER (PARTITION BY {_entity(view)} ORDER BY event_time, known_at, {values})"


def _entity(view: View) -> str:
    return ", ".join(quoted(name) for name in view.entity)


def _in_time(view: View, name: str) -> str:
    if view.max_age is None:
        return f"r.{quoted(name)}"
    return f"CASE WHEN epoch_us(s.t) - epoch_us(r.event_time) <= {_max_age_us(view)} THEN r.{quoted(name)} END"


def _max_age_us(view: View) -> int:
    return int(view.max_age.total_seconds()) * 1_000_000 if view.max_age else 0


@contextmanager
def _known_rows(view: View, tables: Mapping[str, Table], bounds: Bounds) -> Iterator[Sandbox]:
    """Open a sandbox in which the table of rows holds all that a view says and that can be found."""
    check_view(view)
    there = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in view.entity)
    with sandbox(tables, bounds) as box:
        box.run(f"CREATE TEMP VIEW {DECLARED} AS {_declared(view)}")
        columns = box.columns(DECLARED)
        for name in ("event_time", "known_at"):
            _need_time(columns, name, f"view {view.name}")
        box.run(
            f"CREATE TEMP TABLE {ROWS} AS SELECT * FROM {DECLARED}"
            f" WHERE {there} AND isfinite(event_time) AND isfinite(known_at)"
        )
        yield box


def _declared(view: View) -> str:
    """Return the SELECT of all that a view says, features as finite DOUBLEs."""
    numbers = [
        f"CASE WHEN isfinite(CAST({q} AS DOUBLE)) THEN CAST({q} AS DOUBLE) END AS {q}"
        for q in map(quoted, view.features)
    ]
    return (
        f"SELECT {_entity(view)}, {', '.join(numbers)},"
        f"\n({view.event_time}\n) AS event_time,\n({view.known_at}\n) AS known_at"
        f"\nFROM (\n{_bare(view.sql)}\n) AS declared"
    )


def _moments(spine: Spine) -> str:
    columns = ", ".join(quoted(name) for name in (*spine.keys, *spine.columns))
    where = f"\nWHERE ({spine.where}\n)" if spine.where else ""
    return (
        f"SELECT {columns},\n({spine.time}\n) AS t,\nCAST((\n{spine.label}\n) AS DOUBLE) AS label"
        f"\nFROM {quoted(spine.dataset)}{where}"
    )


def _bare(sql: str) -> str:
    return sql.strip().removesuffix(";")


def _within(tables: frozenset[str], allowed: set[str], what: str) -> frozenset[str]:
    if foreign := tables - allowed:
        raise InvalidInput(f"{what} reads {min(foreign)}, which is none of its sources")
    return tables


def _need_time(columns: Mapping[str, str], name: str, what: str) -> None:
    if columns[name] != TIME:
        raise InvalidInput(f"{what}: {name} is {columns[name]}; it must be TIMESTAMPTZ, as by `AT TIME ZONE 'UTC'`")


def _asked(view: View, spine: pa.Table) -> pa.Table:
    if missing := [name for name in (*view.entity, "t") if name not in spine.column_names]:
        raise InvalidInput(f"view {view.name} is found by {missing[0]}, which the spine does not have")
    if spine.schema.field("t").type != pa.timestamp("us", tz="UTC"):
        raise InvalidInput(f"the spine's t is {spine.schema.field('t').type}; it must be timestamp[us, tz=UTC]")
    asked: pa.Table = spine.select([*view.entity, "t"])
    return asked.append_column(PLACE, pa.array(range(spine.num_rows), pa.int64()))
