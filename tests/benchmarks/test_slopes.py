import random

from tests.benchmarks.slopes import Tolerance, percentile, slope, trend

TIGHT = Tolerance(0.02, 1.0)


def test_a_line_has_its_slope_whatever_stands_out() -> None:
    points = [(float(x), 3.0 * x + 5) for x in range(100)]
    for place in range(0, 100, 5):
        points[place] = (float(place), 1e6)

    assert abs(slope(points) - 3) < 0.01


def test_noise_around_a_level_is_flat_and_a_leak_under_the_same_noise_is_not() -> None:
    chance = random.Random(1)
    noise = [(float(x), 100 + chance.gauss(0, 5)) for x in range(200)]
    leak = [(x, y + 0.1 * x) for x, y in noise]

    assert trend(noise, TIGHT).flat
    assert not trend(leak, TIGHT).flat
    assert abs(trend(leak, TIGHT).rise - 20) < 4


def test_what_falls_or_steps_once_early_is_flat() -> None:
    assert trend([(float(x), 1000.0 - x) for x in range(100)], TIGHT).flat
    assert trend([(float(x), 50.0 if x < 10 else 100.0) for x in range(100)], TIGHT).flat


def test_nothing_measured_is_not_called_flat() -> None:
    assert not trend([], TIGHT).flat


def test_of_very_many_points_the_slope_is_the_same() -> None:
    assert abs(slope([(float(x), 0.5 * x) for x in range(20_000)]) - 0.5) < 1e-9


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([5, 1, 3], 0.5) == 3
    assert percentile(list(range(1000)), 0.99) == 990
    assert percentile([], 0.99) == 0
