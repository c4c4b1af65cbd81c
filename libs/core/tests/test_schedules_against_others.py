"""Schedules against croniter and dateutil, over zones and the days on which their clocks are set."""

import importlib.resources
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from croniter import croniter
from dateutil import rrule, tz
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.schedules import Schedule, fires_between, parse_schedule

#: With half hours, odd hours, two hours, no hours, both halves of the world, and rules that were changed.
ZONES = (
    *("UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Istanbul", "Europe/Moscow", "Europe/Lisbon"),
    *("America/New_York", "America/St_Johns", "America/Sao_Paulo", "America/Santiago", "America/Havana"),
    *("America/Caracas", "America/Nuuk", "America/Phoenix", "America/Asuncion", "America/Mexico_City"),
    *("Australia/Lord_Howe", "Australia/Sydney", "Australia/Adelaide", "Pacific/Auckland", "Pacific/Chatham"),
    *("Pacific/Apia", "Pacific/Fiji", "Pacific/Kiritimati", "Antarctica/Troll", "Antarctica/Casey"),
    *("Asia/Kathmandu", "Asia/Tehran", "Asia/Gaza", "Asia/Beirut", "Asia/Amman", "Asia/Pyongyang", "Asia/Kolkata"),
    *("Africa/Casablanca", "Africa/Cairo", "Africa/Juba", "Africa/Sao_Tome"),
)
YEARS = range(1995, 2036)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@cache
def theirs(name: str) -> Any:
    """Return dateutil's zone, read from the file that zoneinfo reads."""
    for folder in zoneinfo.TZPATH:
        if (file := Path(folder, name)).is_file():
            return tz.tzfile(BytesIO(file.read_bytes()))
    return tz.tzfile(BytesIO(importlib.resources.files("tzdata").joinpath("zoneinfo", name).read_bytes()))


@cache
def changes(name: str) -> list[tuple[datetime, timedelta]]:
    """Return when a zone's clocks were set and by how much, as dateutil has it."""
    zone = theirs(name)
    ats = [datetime.fromtimestamp(at, UTC) for at in zone._trans_utc]
    found = [(at, at.astimezone(zone).utcoffset() - (at - MINUTE).astimezone(zone).utcoffset()) for at in ats]
    return [(at, by) for at, by in found if by and at.year in YEARS]


def moments(
    walls: Iterator[datetime], name: str, dst: dict[str, str], start: datetime, end: datetime
) -> list[datetime]:
    """Return what walls come to by dateutil, from a moment on and before another."""
    zone, found = theirs(name), set()
    for wall in walls:
        if wall > end.replace(tzinfo=None) + 3 * DAY:
            break
        if not tz.datetime_exists(wall, zone):
            if dst["skipped"] == "shift":
                found.add(tz.resolve_imaginary(wall.replace(tzinfo=zone)).astimezone(UTC))
            elif dst["skipped"] == "after":
                while not tz.datetime_exists(wall, zone):
                    wall += MINUTE  # noqa: PLW2901 - it is what is looked for
                found.add(wall.replace(tzinfo=zone).astimezone(UTC))
        elif tz.datetime_ambiguous(wall, zone):
            folds = {"first": (0,), "second": (1,), "both": (0, 1)}[dst["doubled"]]
            found |= {tz.enfold(wall.replace(tzinfo=zone), fold).astimezone(UTC) for fold in folds}
        else:
            found.add(wall.replace(tzinfo=zone).astimezone(UTC))
    return sorted(one for one in found if start <= one < end)


def crons(text: str, start: datetime) -> Iterator[datetime]:
    # The "bug" is Debian's: days of the month and of the week are both meant only where neither begins with `*`.
    times = croniter(text, start, implement_cron_bug=True)
    while True:
        yield times.get_next(datetime)


def made(**fields: Any) -> Schedule:
    return parse_schedule({"name": "n", "workflow": "w", **fields})


def number(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(str)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    pair = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)  # croniter takes 3-3 for *
    between = pair.map(lambda two: f"{two[0]}-{two[1]}")
    steps = st.tuples(st.one_of(st.just("*"), between), st.integers(2, high)).map(lambda two: f"{two[0]}/{two[1]}")
    some = st.lists(st.one_of(number(low, high), between), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), number(low, high), steps, some)


#: Few, so that the others are done in time; and on the edges.
MINUTES = st.one_of(number(0, 59), st.sampled_from(["0", "15", "30", "*/15", "*/29", "59", "0,30", "1-59/20"]))
CRONS = st.tuples(MINUTES, field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
#: What is about the hours in which clocks are set.
NIGHTLY = st.tuples(MINUTES, field(0, 4)).map(lambda two: f"{two[0]} {two[1]} * * *")
DST = st.fixed_dictionaries(
    {"skipped": st.sampled_from(["after", "shift", "skip"]), "doubled": st.sampled_from(["first", "second", "both"])}
)
ANY_DAY = st.tuples(st.sampled_from(YEARS), st.integers(0, 364))


@given(CRONS, st.sampled_from(ZONES), DST, ANY_DAY)
@settings(max_examples=500, deadline=None)
def test_any_cron_fires_when_croniter_and_dateutil_say(
    cron: str, zone: str, dst: dict[str, str], day: tuple[int, int]
) -> None:
    start = datetime(day[0], 1, 1, tzinfo=UTC) + day[1] * DAY
    end = start + 5 * DAY
    walls = crons(cron, start.replace(tzinfo=None) - 3 * DAY)

    assert fires_between(made(cron=cron, zone=zone, dst=dst), start, end, 10_000) == moments(
        walls, zone, dst, start, end
    )


@pytest.mark.parametrize("zone", [zone for zone in ZONES if changes(zone)])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_cron_fires_when_croniter_and_dateutil_say_where_clocks_are_set(zone: str, data: st.DataObject) -> None:
    set_on = changes(zone)
    start = data.draw(st.sampled_from(set_on))[0] - DAY
    cron, dst, end = data.draw(NIGHTLY), data.draw(DST), start + 3 * DAY
    walls = crons(cron, start.replace(tzinfo=None) - 3 * DAY)

    assert fires_between(made(cron=cron, zone=zone, dst=dst), start, end, 10_000) == moments(
        walls, zone, dst, start, end
    )


def test_clocks_that_are_set_by_much_and_by_little_are_among_them() -> None:
    assert sum(len(changes(zone)) > 2 for zone in ZONES) > 25
    sizes = {abs(by) for zone in ZONES for _, by in changes(zone)}
    assert {timedelta(minutes=30), timedelta(hours=1), timedelta(hours=2), timedelta(hours=24)} <= sizes


RARE = ("0 0 29 2 *", "59 23 31 12 *", "0 0 31 * *", "0 12 L * *", "0 6 * * 5#3", "0 6 * * L5")


@pytest.mark.parametrize("cron", RARE)
def test_a_cron_for_rare_days_fires_when_croniter_says_over_decades(cron: str) -> None:
    start, end = datetime(1995, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)
    ours = cron.replace("L5", "5L")  # the last Friday, as Quartz and Debian's cron write it

    walls = moments(crons(cron, start.replace(tzinfo=None) - MINUTE), "UTC", {}, start, end)

    assert fires_between(made(cron=ours), start, end, 10_000) == walls
    assert walls


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@given(
    st.lists(st.sampled_from(range(1, 13)), max_size=3, unique=True),
    st.lists(st.sampled_from([*range(1, 32), -1, -2, -3, -28]), max_size=4, unique=True),
    st.lists(st.sampled_from(range(7)), max_size=3, unique=True),
    st.lists(st.sampled_from([1, 2, 3, 4, 5, -1, -2]), max_size=2, unique=True),
    st.lists(st.tuples(st.integers(0, 23), st.integers(0, 59)), min_size=1, max_size=3, unique=True),
    st.sampled_from(ZONES),
    DST,
    st.sampled_from(YEARS[:-3]),
)
@settings(max_examples=25, deadline=None)
def test_a_calendar_fires_when_dateutils_rules_say(
    months: list[int],
    month_days: list[int],
    weekdays: list[int],
    nth: list[int],
    at: list[tuple[int, int]],
    zone: str,
    dst: dict[str, str],
    year: int,
) -> None:
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    days: dict[str, Any] = {"months": months, "month_days": month_days}
    days |= {"weekdays": [WEEKDAYS[day] for day in weekdays], "nth": nth if weekdays else []}
    calendar: dict[str, Any] = {"at": [f"{hour:02d}:{minute:02d}" for hour, minute in at]}
    if any(days.values()):
        calendar["days"] = [days]
    named = [rrule.weekday(day, n) for day in weekdays for n in nth] if nth else weekdays
    rules = rrule.rruleset()
    for hour, minute in at:
        rules.rrule(
            rrule.rrule(
                rrule.MONTHLY if named and nth else rrule.DAILY,
                dtstart=start.replace(tzinfo=None) - 3 * DAY,
                until=end.replace(tzinfo=None) + 3 * DAY,
                bymonth=months or None,
                bymonthday=month_days or None,
                byweekday=named or None,
                byhour=hour,
                byminute=minute,
                bysecond=0,
            )
        )

    assert fires_between(made(calendar=calendar, zone=zone, dst=dst), start, end, 10_000) == moments(
        iter(rules), zone, dst, start, end
    )
