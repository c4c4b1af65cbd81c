"""The views on real months: nothing that was not known is used, and a model learns from what was."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from lightgbm import LGBMClassifier
from millrace.data.engine.contract import read_contract
from millrace.data.engine.sandbox import Bounds as ScanBounds
from millrace.data.engine.scan import split
from millrace.feature.commands import Spine, View, parse_views
from millrace.feature.engine.sandbox import Bounds, Part, Table
from millrace.feature.engine.views import as_known, spine_rows
from sklearn.metrics import roc_auc_score

from examples.flights import upstream

EXAMPLE = Path(__file__).parents[1]
CACHE = Path.home() / ".cache" / "millrace"
BOUNDS = Bounds()
MONTHS = (1, 2, 3)
MOMENTS = 2
TIME = pa.timestamp("us", tz="UTC")

VIEWS = {view.name: view for path in EXAMPLE.glob("views/*.yaml") for view in parse_views(path.read_text())}
ASKED = yaml.safe_load((EXAMPLE / "training_set.yaml").read_text())
SPINE = Spine.model_validate(ASKED["spine"])


def landed_at(month: int) -> datetime:
    return datetime(upstream.YEAR, month + 1, 1, 6, tzinfo=UTC)


@dataclass(frozen=True)
class Months:
    """Months as data would publish them, and the tables that come once."""

    parts: Mapping[tuple[str, int], Part]

    def read_by(self, view: View, month: int) -> dict[str, Table]:
        """Return what a view reads when values are wanted for a month."""
        found: dict[str, Table] = {}
        for source in view.sources:
            back = source.partitions if isinstance(source.partitions, int) else month
            known = range(max(1, month - back + 1), month + 1) if source.partitions != "all" else (0,)
            found[source.dataset] = [self.parts[source.dataset, each] for each in known]
        return found

    def spine(self, month: int) -> pa.Table:
        """Return the moments of a month."""
        return spine_rows(SPINE, [self.parts["flights", month]], BOUNDS)


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Months:
    folder = tmp_path_factory.mktemp("views")
    archive = upstream.fetch(CACHE)
    planes, airports = upstream.cut_reference(archive, folder)
    files = {("planes", 0): planes, ("airports", 0): airports}
    for month, landed in zip(MONTHS, upstream.cut(archive, folder, MONTHS), strict=True):
        files |= {("flights", month): landed.flights, ("weather", month): landed.weather}
    return Months({key: published(*key, path, folder / f"{key[0]}-{key[1]}") for key, path in files.items()})


def published(dataset: str, month: int, path: Path, folder: Path) -> Part:
    folder.mkdir()
    (folder / "source.csv").write_bytes(path.read_bytes())
    contract = read_contract((EXAMPLE / "contracts" / f"{dataset}.yaml").read_text())
    made = split(contract, folder / "source.csv", "csv", folder, ScanBounds())
    return Part(made.good, made.quarantined, landed_at(month))


def features(months: Months, month: int, names: tuple[str, ...], views: Mapping[str, View] = VIEWS) -> pa.Table:
    spine = months.spine(month)
    columns: dict[str, pa.ChunkedArray] = {}
    for name in names:
        found = as_known(views[name], spine, months.read_by(views[name], month), BOUNDS)
        columns |= {column: found.column(column) for column in found.column_names}
    return pa.table(columns)


@dataclass(frozen=True)
class Leg:
    """A leg that was flown, with its instants worked out from the clocks."""

    dest: str
    departed: datetime
    landed: datetime
    air_time: timedelta


def legs(months: Months, month: int) -> list[Leg]:
    """Return the good flights of a month, in their order."""
    airports = pq.read_table(months.parts["airports", 0].good, columns=["faa", "tzone"]).to_pylist()
    zones = {airport["faa"]: ZoneInfo(airport["tzone"]) for airport in airports if airport["tzone"]}
    elsewhere = ZoneInfo("America/Puerto_Rico")
    found = []
    for row in pq.read_table(months.parts["flights", month].good).to_pylist():
        minutes = row["sched_dep_time"] % 100 + row["dep_delay"]
        departed = row["time_hour"] + timedelta(minutes=minutes)
        there = departed.astimezone(zones.get(row["dest"], elsewhere))
        clock = timedelta(hours=row["arr_time"] // 100, minutes=row["arr_time"] % 100)
        landed = there.replace(hour=0, minute=0) + clock
        if landed.replace(tzinfo=None) < there.replace(tzinfo=None):
            landed += timedelta(days=1)
        found.append(Leg(row["dest"], departed, landed.astimezone(UTC), timedelta(minutes=row["air_time"])))
    return found


def scrambled(months: Months, month: int, after: datetime, folder: Path) -> Months:
    """Return the months with 500 minutes added to the arrival delay of every leg that landed after a moment."""
    part = months.parts["flights", month]
    rows = pq.read_table(part.good)
    delays = zip(rows.column("arr_delay").to_pylist(), legs(months, month), strict=True)
    moved = pa.array([delay + 500 if leg.landed > after else delay for delay, leg in delays], pa.int64())
    path = folder / f"scrambled-{after:%d%H%M}.parquet"
    pq.write_table(rows.set_column(rows.schema.get_field_index("arr_delay"), "arr_delay", moved), path)
    return Months({**months.parts, ("flights", month): Part(path, part.quarantined, part.landed_at)})


def changed_rows(
    months: Months, after: datetime, folder: Path, names: tuple[str, ...], views: Mapping[str, View] = VIEWS
) -> tuple[int, int]:
    """Return how many rows scored by a moment changed when later landings did, and how many rows there are."""
    known = pc.less_equal(months.spine(2).column("t"), pa.scalar(after, TIME))
    before = features(months, 2, names, views).filter(known)
    rescored = features(scrambled(months, 2, after, folder), 2, names, views).filter(known)
    same = [
        [a == b for a, b in zip(before.column(name).to_pylist(), rescored.column(name).to_pylist(), strict=True)]
        for name in before.column_names
    ]
    return sum(not all(row) for row in zip(*same, strict=True)), before.num_rows


@pytest.fixture(scope="module")
def moments(months: Months) -> list[datetime]:
    """Moments of February at which a minute matters: flights are scored, and legs to where they go land next."""
    spine = months.spine(2)
    scored = Counter(zip(spine.column("dest").to_pylist(), spine.column("t").to_pylist(), strict=True))
    landing = Counter((leg.dest, leg.landed - timedelta(minutes=1)) for leg in legs(months, 2))
    telling = Counter[datetime]()
    for (dest, moment), rows in scored.items():
        telling[moment] += rows * landing[dest, moment]
    return sorted(moment for moment, _ in telling.most_common(MOMENTS))


def test_landings_are_where_the_clocks_and_the_flying_time_put_them(months: Months) -> None:
    taxied = [leg.landed - leg.departed - leg.air_time for month in MONTHS for leg in legs(months, month)]

    assert min(taxied) >= timedelta(0)
    assert max(taxied) < timedelta(hours=4)


def test_no_row_uses_a_leg_that_had_not_landed_when_it_was_scored(
    months: Months, moments: list[datetime], tmp_path: Path
) -> None:
    found = [changed_rows(months, moment, tmp_path, tuple(ASKED["views"])) for moment in moments]

    assert [changed for changed, _ in found] == [0] * MOMENTS
    assert sum(rows for _, rows in found) > 10_000


@pytest.mark.parametrize(
    ("name", "known_at", "event_time"),
    [
        ("destination_now", "landed_at - INTERVAL 1 MINUTE", "landed_at - INTERVAL 1 MINUTE"),
        ("tail", "departed_at", "departed_at"),
    ],
    ids=["known a minute early", "known at departure"],
)
def test_a_planted_leak_is_found(
    months: Months, moments: list[datetime], tmp_path: Path, name: str, known_at: str, event_time: str
) -> None:
    planted = VIEWS[name].model_copy(update={"known_at": known_at, "event_time": event_time})

    found = [changed_rows(months, moment, tmp_path, (name,), {name: planted}) for moment in moments]

    assert all(changed > 0 for changed, _ in found)


def test_a_model_learns_from_what_was_known(months: Months) -> None:
    rows, labels = [], []
    for month in (2, 3):
        part = features(months, month, tuple(ASKED["views"]))
        rows.append(np.column_stack([np.asarray(column) for column in part.columns]))
        labels.append(np.asarray(months.spine(month).column("label")))
    model = LGBMClassifier(learning_rate=0.08, num_leaves=15, n_estimators=80, random_state=0, n_jobs=1, verbose=-1)

    model.fit(rows[0], labels[0])

    assert 0.72 < roc_auc_score(labels[1], np.asarray(model.predict_proba(rows[1]))[:, 1]) < 0.85
