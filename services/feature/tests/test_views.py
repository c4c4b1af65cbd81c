"""The engine against a brute-force reading of the same words, on random tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.feature.commands import Spine, View
from millrace.feature.engine.sandbox import Bounds
from millrace.feature.engine.views import as_known, newest, spine_rows
from millrace.runtime.errors import InvalidInput

START = datetime(2013, 3, 10, 6, tzinfo=UTC)
"""An hour before New York's clocks go forward."""

TIME = pa.timestamp("us", tz="UTC")
BOUNDS = Bounds(memory_bytes=256 * 1024**2, time_s=20)
ROWS = pa.schema({"key": pa.string(), "event_time": TIME, "known_at": TIME, "value": pa.float64()})
SPINE = pa.schema({"key": pa.string(), "t": TIME})


def view(**fields: Any) -> View:
    return View.model_validate({
        "name": "seen",
        "entity": ["key"],
        "sources": ["rows"],
        "sql": "SELECT key, event_time, known_at, value FROM rows",
        "features": ["value"],
        **fields,
    })  # fmt: skip


def moment(minutes: float | None) -> datetime | None:
    return None if minutes is None else START + timedelta(minutes=minutes)


def table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema)


keys = st.sampled_from(["a", "b", "ä", "", None])
moments = st.one_of(st.none(), st.integers(0, 12)).map(moment)
values = st.one_of(st.none(), st.integers(-3, 3).map(float), st.just(float("nan")))
row_lists = st.lists(st.tuples(keys, moments, moments, values), max_size=25)
spines = st.lists(st.tuples(keys, st.integers(-1, 13).map(moment)), max_size=15)
ages = st.one_of(st.none(), st.integers(1, 8))


def brute_force(rows: list[Any], key: Any, t: datetime, max_age: timedelta | None) -> float | None:
    found = [
        (event_time, known_at, value is not None and value == value, value if value == value else None)  # noqa: PLR0124 - NaN
        for k, event_time, known_at, value in rows
        if k is not None and k == key and event_time and known_at and event_time <= t and known_at <= t
    ]
    if not found:
        return None
    best = max(found, key=lambda row: (row[0], row[1], row[2], row[3] or 0))
    return None if max_age is not None and t - best[0] > max_age else best[3]


@settings(max_examples=100, deadline=None)
@given(row_lists, spines, ages)
def test_every_moment_gets_what_was_known_then(rows: list[Any], spine: list[Any], age: int | None) -> None:
    declared = view(max_age=f"{age}m" if age else None)

    found = as_known(declared, table(spine, SPINE), {"rows": table(rows, ROWS)}, BOUNDS)

    assert found.column("seen.value").to_pylist() == [brute_force(rows, key, t, declared.max_age) for key, t in spine]


@settings(max_examples=25, deadline=None)
@given(row_lists, spines, st.lists(st.tuples(keys, st.just(moment(0)), values), max_size=10))
def test_what_became_known_later_changes_nothing(rows: list[Any], spine: list[Any], late: list[Any]) -> None:
    last = max((t for _, t in spine), default=START)
    later = [(key, event_time, last + timedelta(microseconds=1), value) for key, event_time, value in late]

    before = as_known(view(), table(spine, SPINE), {"rows": table(rows, ROWS)}, BOUNDS)
    after = as_known(view(), table(spine, SPINE), {"rows": table(rows + later, ROWS)}, BOUNDS)

    assert after.equals(before)


@settings(max_examples=25, deadline=None)
@given(row_lists, st.integers(0, 12), ages)
def test_the_newest_row_is_what_a_moment_now_would_see(rows: list[Any], minute: int, age: int | None) -> None:
    declared, now = view(max_age=f"{age}m" if age else None), START + timedelta(minutes=minute)

    found = newest(declared, now, {"rows": table(rows, ROWS)}, BOUNDS)

    online = dict(
        zip((key for (key,) in found.column("key").to_pylist()), found.column("value").to_pylist(), strict=True)
    )
    assert len(online) == found.num_rows
    for key in ("a", "b", "ä", ""):
        assert online.get(key) == brute_force(rows, key, now, declared.max_age)


def test_an_age_counts_as_long_as_it_is_not_exceeded() -> None:
    rows = table([("a", moment(0), moment(0), 1.0)], ROWS)
    spine = table([("a", moment(5)), ("a", START + timedelta(minutes=5, microseconds=1))], SPINE)

    assert as_known(view(max_age="5m"), spine, {"rows": rows}, BOUNDS).column(0).to_pylist() == [1.0, None]


def test_a_late_correction_counts_from_when_it_was_known() -> None:
    rows = table(
        [("a", moment(0), moment(1), 1.0), ("a", moment(0), moment(9), 2.0), ("a", moment(2), moment(3), 3.0)], ROWS
    )
    spine = table([("a", moment(m)) for m in (0, 1, 3, 9)], SPINE)

    assert as_known(view(), spine, {"rows": rows}, BOUNDS).column(0).to_pylist() == [None, 1.0, 3.0, 3.0]


def test_an_entity_of_several_columns_is_found_by_all_of_them() -> None:
    rows = pa.table(
        {"origin": ["JFK", "LGA"], "number": [1, 1], "moved_at": pa.array([START, START], TIME), "seats": [10, 20]}
    )
    spine = pa.table({"number": [1, 1, 2], "origin": ["LGA", "JFK", "JFK"], "t": pa.array([START] * 3, TIME)})
    declared = view(
        entity=["origin", "number"],
        sql="SELECT * FROM rows",
        event_time="moved_at",
        known_at="moved_at",
        features=["seats"],
    )

    assert as_known(declared, spine, {"rows": rows}, BOUNDS).column(0).to_pylist() == [20.0, 10.0, None]


def test_a_spine_is_in_the_order_of_time_with_every_row_kept() -> None:
    moves = pa.table(
        {"key": ["b", "a", "a"], "moved_at": pa.array([moment(2), moment(1), moment(1)], TIME), "size": [3, 1, 1]}
    )

    found = spine_rows(Spine(dataset="moves", keys=("key",), time="moved_at", label="size >= 2"), moves, BOUNDS)

    assert found.to_pydict() == {
        "key": ["a", "a", "b"],
        "t": [moment(1), moment(1), moment(2)],
        "label": [0.0, 0.0, 1.0],
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event_time": "event_time AT TIME ZONE 'UTC'"}, "event_time is TIMESTAMP; it must be TIMESTAMPTZ"),
        ({"sources": ["other"]}, "view seen reads rows, which is none of its sources"),
        ({"features": ["price"]}, "SQL fails: Binder Error"),
        ({"entity": ["name"]}, "found by name, which the spine does not have"),
    ],
)
def test_a_view_that_does_not_fit_is_refused_by_name(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        as_known(view(**fields), table([], SPINE), {"rows": table([], ROWS)}, BOUNDS)
