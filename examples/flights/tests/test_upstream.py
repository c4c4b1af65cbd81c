"""The facts of the flights data, and the contracts' verdicts on them."""

from pathlib import Path

import pytest
from millrace.data.engine.contract import read_contract
from millrace.data.engine.sandbox import Bounds
from millrace.data.engine.scan import Split, split

from examples.flights import upstream

CONTRACTS = Path(__file__).parents[1] / "contracts"
CACHE = Path.home() / ".cache" / "millrace"


@pytest.fixture(scope="module")
def archive() -> Path:
    return upstream.fetch(CACHE)


@pytest.fixture(scope="module")
def months(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> list[upstream.Month]:
    return upstream.cut(archive, tmp_path_factory.mktemp("landing"), range(1, 6))


def verdict(path: Path, contract: str, folder: Path) -> Split:
    source = folder / "source"
    source.write_bytes(path.read_bytes())
    return split(read_contract((CONTRACTS / f"{contract}.yaml").read_text()), source, "csv", folder, Bounds())


@pytest.mark.parametrize(
    ("month", "rows", "cancelled", "diverted"),
    [(1, 27_004, 521, 85), (2, 24_951, 1_261, 79), (3, 28_834, 861, 71), (4, 28_330, 668, 98), (5, 28_796, 563, 105)],
)
def test_cancelled_and_diverted_flights_are_set_aside_and_all_others_are_good(
    months: list[upstream.Month], tmp_path: Path, month: int, rows: int, cancelled: int, diverted: int
) -> None:
    part = verdict(months[month - 1].flights, "flights", tmp_path)

    assert part.rows_by_reason == {"cancelled": cancelled, "diverted": diverted}
    assert part.good_rows == rows - cancelled - diverted


def test_a_hurricane_that_never_was_is_set_aside_from_the_weather(months: list[upstream.Month], tmp_path: Path) -> None:
    reasons = [verdict(month.weather, "weather", tmp_path).rows_by_reason for month in months]

    assert reasons == [{}, {"wind_speed is above 253": 1}, {}, {}, {}]


def test_all_planes_and_airports_are_good(archive: Path, tmp_path: Path) -> None:
    planes, airports = upstream.cut_reference(archive, tmp_path)

    assert verdict(planes, "planes", tmp_path).good_rows == 3_322
    assert verdict(airports, "airports", tmp_path).good_rows == 1_458


def test_most_of_a_damaged_month_passes_its_contract(months: list[upstream.Month], tmp_path: Path) -> None:
    part = verdict(upstream.damage(months[4].flights, tmp_path / "damaged.csv"), "flights", tmp_path)

    assert part.good_rows == 27_913
    assert part.good_rows + part.rows_by_reason["the delay changed by more than four hours under way"] == 28_128


def test_the_same_archive_is_cut_into_the_same_bytes(
    archive: Path, months: list[upstream.Month], tmp_path: Path
) -> None:
    [again] = upstream.cut(archive, tmp_path, [2])

    assert [again.trigger()[name]["sha256"] for name in ("flights", "weather")] == [
        months[1].trigger()[name]["sha256"] for name in ("flights", "weather")
    ]
    assert again.trigger()["month"] == "2013-02"


def test_an_archive_with_other_bytes_is_not_used(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / upstream.ARCHIVE).write_bytes(archive.read_bytes() + b"x")
    # No index: pip must fail, whatever the machine's network.
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(upstream.FetchError, match="check the network"):
        upstream.fetch(tmp_path)
