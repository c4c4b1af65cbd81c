import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from millrace.contracts.feature import TrainingSetBuilt, ViewApplied, ViewMaterialised
from millrace.feature.commands import ApplyViews, ListViews, ReadOnline, parse_views
from millrace.feature.domain import Generation, OnlineRow, TrainingSet
from millrace.feature.handlers import (
    Built,
    Materialised,
    apply_views,
    keep_training_set,
    list_views,
    put_online,
    read_online,
)
from millrace.feature.store import Store
from millrace.runtime.errors import Conflict, InvalidInput, NotFound

from .conftest import SHOPS_YAML

APPLY = ApplyViews(namespace="demo", views=tuple(parse_views(SHOPS_YAML)))


async def computed(tx: Store, name: str, rows: list[OnlineRow], *, view: str = "site") -> Generation:
    """Return a generation all of whose rows are there."""
    [applied] = await tx.views("demo", [view])
    begun = Generation(view, name, applied.view_hash, ("v1", "v2"), applied.view.entity, applied.view.features, tx.now)
    known = await tx.begin_generation("demo", begun)
    tx.add_online_rows("demo", known, rows)
    tx.complete_generation("demo", known, len(rows))
    return replace(known, entities=len(rows))


def site(floor: int, seats: float) -> OnlineRow:
    return OnlineRow(("nørth", str(floor)), (seats,))


def asked(*entities: Mapping[str, Any], views: tuple[str, ...] = ("site",)) -> ReadOnline:
    return ReadOnline(namespace="demo", views=views, entities=tuple(map(dict, entities)))


async def test_a_view_is_announced_once_however_often_it_is_applied(tx: Store) -> None:
    first = await apply_views(APPLY, tx)
    second = await apply_views(APPLY, tx)

    assert first == second
    assert [event.view for event in tx.emitted if isinstance(event, ViewApplied)] == ["queue", "record", "site"]
    assert [applied.view for applied in await tx.list_views("demo", "", 9)] == list(APPLY.views)
    assert await tx.list_views("other", "", 9) == []


async def test_views_are_listed_page_by_page(tx: Store) -> None:
    await apply_views(APPLY, tx)

    first, after = await list_views(ListViews(namespace="demo", limit=2), tx)
    rest, end = await list_views(ListViews(namespace="demo", limit=2, after=after), tx)

    assert [[one.view.name for one in page] for page in (first, rest)] == [["queue", "record"], ["site"]]
    assert (after, end) == ("record", "")


async def test_a_changed_view_takes_the_place_of_the_former_one(tx: Store) -> None:
    await apply_views(APPLY, tx)
    changed = APPLY.views[0].model_copy(update={"max_age": timedelta(hours=9)})

    [applied] = await apply_views(ApplyViews(namespace="demo", views=(changed,)), tx)

    assert applied.view == changed
    assert len(tx.emitted) == 4


async def test_online_values_come_back_in_the_order_asked_and_nan_where_nothing_is_known(tx: Store) -> None:
    await apply_views(APPLY, tx)
    made = await computed(tx, "g1", [site(0, 10.0), site(1, math.nan)])
    record = await computed(tx, "r1", [OnlineRow(("nørth",), (3.5, 7.0))], view="record")
    await put_online(Materialised(generations=[made, record]), tx)
    entities: tuple[dict[str, Any], ...] = (
        {"shop": "nørth", "floor": 0},
        {"shop": "nørth", "floor": "1"},
        {"shop": "x", "floor": None},
    )

    online = await read_online(asked(*entities, views=("record", "site")), tx)

    assert online.features == ["record.waited_min", "record.visits", "site.seats"]
    assert online.generations == {"record": "r1", "site": "g1"}
    assert str(online.rows) == str([[3.5, 7.0, 10.0], [3.5, 7.0, math.nan], [math.nan] * 3])


async def test_only_what_is_online_can_be_asked_for_and_only_whole_keys(tx: Store) -> None:
    await apply_views(APPLY, tx)
    await put_online(Materialised(generations=[await computed(tx, "g1", [site(0, 1.0)])]), tx)

    assert (await read_online(asked(), tx)).rows == []
    with pytest.raises(NotFound, match="view record in demo is not online"):
        await read_online(asked({"shop": "x"}, views=("site", "record")), tx)
    with pytest.raises(InvalidInput, match="entity 1 has no floor, by which view site is found"):
        await read_online(asked({"shop": "x", "floor": 1}, {"shop": "x"}), tx)


async def test_a_generation_goes_online_in_one_step_and_is_announced_once(tx: Store) -> None:
    await apply_views(APPLY, tx)
    made = await computed(tx, "g1", [site(0, 1.0)])

    output = await put_online(Materialised(generations=[made]), tx)
    again = await put_online(Materialised(generations=[made]), tx)

    assert output == again == {"generations": {"site": "g1"}, "entities": 1}
    [event] = [event for event in tx.emitted if isinstance(event, ViewMaterialised)]
    assert (event.generation, event.version_ids, event.entities) == ("g1", ["v1", "v2"], 1)
    assert set(tx.used_refs) == {"data.version:v1", "data.version:v2"}
    assert tx.made_refs == {"feature.view:g1": {"view": "site", "entities": 1}}


async def test_what_was_begun_earlier_never_replaces_what_was_begun_later(tx: Store) -> None:
    await apply_views(APPLY, tx)
    late = await computed(tx, "late", [site(0, 2.0)])
    early = replace(await computed(tx, "early", [site(0, 1.0)]), started_at=tx.now - timedelta(minutes=1))

    await put_online(Materialised(generations=[late]), tx)
    await put_online(Materialised(generations=[early]), tx)

    assert (await read_online(asked({"shop": "nørth", "floor": 0}), tx)).rows == [[2.0]]


async def test_a_generation_with_rows_missing_is_not_put_online(tx: Store) -> None:
    await apply_views(APPLY, tx)
    made = await computed(tx, "g1", [site(0, 1.0)])

    with pytest.raises(Conflict, match="generation g1 of view site has 1 rows, not 5"):
        await put_online(Materialised(generations=[replace(made, entities=5)]), tx)

    assert not [event for event in tx.emitted if isinstance(event, ViewMaterialised)]


async def test_a_training_set_is_announced_once_and_names_all_it_was_made_of(tx: Store) -> None:
    applied = tuple(await apply_views(APPLY, tx))
    made = TrainingSet("ts", "late", "a" * 64, 9, applied, ("v1", "v2"))

    outputs = [await keep_training_set(Built(training_set=made), tx) for _ in range(2)]

    assert outputs == [{"training_set_id": "ts", "rows": 9, "features": 4, "sha256": "a" * 64}] * 2
    [event] = [event for event in tx.emitted if isinstance(event, TrainingSetBuilt)]
    assert event.view_hashes == [each.view_hash for each in applied]
    assert set(tx.used_refs) == {"data.version:v1", "data.version:v2"} | {
        f"feature.declaration:{each.view_hash}" for each in applied
    }
    found = await tx.training_set("demo", "ts")
    assert replace(found, built_at=None) == made
    assert found.features == ["queue.waited_min", "record.waited_min", "record.visits", "site.seats"]
    assert found.request_features == ["queue.waited_min"]


async def test_results_survive_the_way_from_a_child_process(tx: Store) -> None:
    applied = tuple(await apply_views(APPLY, tx))
    built = Built(training_set=TrainingSet("ts", "late", "a" * 64, 9, applied, ("v1",)))
    materialised = Materialised(generations=[await computed(tx, "g1", [site(0, 1.0)])])

    assert Built.model_validate_json(built.model_dump_json()) == built
    assert Materialised.model_validate_json(materialised.model_dump_json()) == materialised
