"""When schedules start something: documents, days, exclusions, clocks that are set, jitter."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.errors import InvalidDocument
from millrace.core.schedules import Schedule, fill, fires, fires_between, last_fire, moment, parse_schedule

TIMES = st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2030-01-01"), timezones=st.just(UTC))
BERLIN = {"zone": "Europe/Berlin"}


def schedule(**fields: Any) -> Schedule:
    return parse_schedule({"name": "nightly", "workflow": "w"} | fields)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(made: Schedule, after: str, count: int) -> list[str]:
    """Return the next moments after one (UTC) as clocks of the schedule's zone show them."""
    return [f"{one.logical_at.astimezone(made.tz):%Y-%m-%d %H:%M%z}" for one in fires(made, at(after), count)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "exactly one of `cron`, `interval`, `calendar`"),
        ({"cron": "* * * * *", "interval": {"every_s": 5}}, "exactly one of"),
        ({"cron": "* * * *"}, "has 4 fields, not 5"),
        ({"cron": "0 * * * * *"}, "for less than a minute there is `interval`"),
        ({"cron": "61 * * * *"}, "has a minute that cannot be read"),
        ({"cron": "0 0 31 2 *"}, "has a day of month that cannot be read, or that no month has"),
        ({"cron": "0 0 * * 5#3/2"}, "cannot be read"),
        ({"cron": "0 0 * * *", "zone": "Mars/Olympus"}, "'Mars/Olympus' is no IANA time zone"),
        ({"cron": "0 0 * * *", "zone": "../etc/passwd"}, "no IANA time zone"),
        ({"cron": "0 0 * * *", "dst": {"skipped": "skip"}}, "dst.doubled"),
        ({"interval": {"every_s": 60}, "dst": {"skipped": "skip", "doubled": "both"}}, "an interval has none"),
        ({"interval": {"every_s": 0}}, "interval.every_s"),
        ({"calendar": {"at": ["25:00"]}}, "no time of day such as 09:30"),
        ({"calendar": {"at": ["09:00"], "days": [{}]}}, "it names no day"),
        ({"calendar": {"at": ["09:00"], "days": [{"month_days": [0]}]}}, "there is no 0"),
        ({"calendar": {"at": ["09:00"], "days": [{"nth": [1]}]}}, "`nth` counts `weekdays`"),
        ({"cron": "@daily", "exclude": [{"dates": ["24.12.2026"]}]}, "no date such as 2026-12-24"),
        ({"cron": "@daily", "exclude": [{"from": "2026-02-01", "to": "2026-01-01"}]}, "is after `to`"),
        ({"cron": "@daily", "start": "2026-01-01T00:00:00"}, "start"),
        ({"cron": "@daily", "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "not before `end`"),
        ({"cron": "@daily", "start": "0001-01-01T00:00:00Z"}, "start: it is of the year 1"),
        ({"cron": "@daily", "end": "9999-12-31T23:59:59-12:00"}, "schedules are of 1900 to 2999"),
        ({"cron": "@daily", "limit": 2}, "`limit` is of the strategy parallel"),
        ({"cron": "@daily", "strategy": "whatever"}, "strategy"),
        ({"cron": "@daily", "jitter": 5}, "jitter: unknown field; known are name, workflow"),
        ({"cron": "@daily", "data": {"day": {"$from": "/trigger/data"}}}, "data.day.$from: it leads nowhere"),
        ({"cron": "@daily", "data": [{"$text": "s3://$when"}]}, "data.0.$text: there is no $when"),
        ({"cron": "@daily", "data": {"$text": "5 $"}}, "has a $ that begins no name"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused_with_its_field_and_what_would_be_right(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidDocument) as refused:
        schedule(**fields)

    assert said in str(refused.value)


@given(st.text("0123456789*/,-#LWMONJAN @", max_size=24), st.integers(3, 6))
@settings(deadline=None)
def test_any_text_is_a_cron_or_refused_as_one(text: str, fields: int) -> None:
    for cron in (text, " ".join([text.replace(" ", "") or "*"] * fields)):
        try:
            made = schedule(cron=cron)
        except InvalidDocument as refused:
            assert "cron" in str(refused)  # noqa: PT017 - either is right
        else:
            assert len(fires(made, at("2026-01-01T00:00:00"), 2)) <= 2


def test_a_document_says_what_it_was_not_told_and_comes_back_the_same() -> None:
    made = schedule(calendar={"at": ["09:30"], "days": [{"weekdays": ["fri"], "nth": [-1]}]}, exclude=[{"months": [8]}])
    hourly = schedule(cron="30 * * * *")

    assert made.document()["dst"] == {"skipped": "after", "doubled": "first"}
    assert hourly.document()["dst"] == {"skipped": "skip", "doubled": "both"}
    assert made.document()["calendar"] == {"at": ["09:30:00"], "days": [{"weekdays": ["fri"], "nth": [-1]}]}
    assert parse_schedule(made.document()) == made


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ({"weekdays": ["fri"], "nth": [3]}, ["2026-01-16", "2026-02-20", "2026-03-20"]),
        ({"weekdays": ["mon", "fri"], "nth": [-1]}, ["2026-01-26", "2026-01-30", "2026-02-23"]),
        ({"month_days": [-1]}, ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ({"month_days": [15, -2], "months": [2]}, ["2026-02-15", "2026-02-27", "2027-02-15"]),
        ({"dates": ["2026-05-01", "2026-03-03"]}, ["2026-03-03", "2026-05-01"]),
        ({"from": "2026-03-01", "to": "2026-03-02"}, ["2026-03-01", "2026-03-02"]),
        ({"month_days": [29], "months": [2]}, ["2028-02-29", "2032-02-29", "2036-02-29"]),
    ],
)
def test_a_calendar_means_the_days_for_which_all_that_is_given_holds(days: dict[str, Any], found: list[str]) -> None:
    made = schedule(calendar={"at": ["09:00"], "days": [days]})

    assert [one[:10] for one in local(made, "2026-01-01T00:00:00", 3)] == found


def test_nothing_is_started_on_an_excluded_day_whatever_names_it() -> None:
    out = [{"dates": ["2026-12-28"]}, {"from": "2026-12-24", "to": "2026-12-26"}, {"weekdays": ["sat", "sun"]}]
    cron = schedule(cron="0 9,17 * * *", exclude=out, **BERLIN)
    calendar = schedule(calendar={"at": ["17:00", "09:00"]}, exclude=out, **BERLIN)
    interval = schedule(interval={"every_s": 8 * 3600}, start="2026-12-01T01:00:00+01:00", exclude=out, **BERLIN)

    wanted = ["2026-12-22", "2026-12-22", "2026-12-23", "2026-12-23", "2026-12-29", "2026-12-29"]
    assert [one[:10] for one in local(cron, "2026-12-21T20:00:00", 6)] == wanted
    assert local(calendar, "2026-12-21T20:00:00", 6) == local(cron, "2026-12-21T20:00:00", 6)
    assert [one[:16] for one in local(interval, "2026-12-23T12:00:00", 3)] == [
        "2026-12-23 17:00",
        "2026-12-29 01:00",
        "2026-12-29 09:00",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "0 0 * * mon", "exclude": [{"weekdays": ["mon"]}]},
        {"cron": "* * * * *", "exclude": [{"from": "1970-01-01"}]},
        {"calendar": {"at": ["09:00"], "days": [{"months": [2], "month_days": [30]}]}},
        {"calendar": {"at": ["09:00"], "days": [{"dates": ["2020-01-01"]}]}},
        {"interval": {"every_s": 1}, "exclude": [{"to": "2999-01-01"}]},
        {"interval": {"every_s": 60}, "end": "2026-01-01T00:00:00Z"},
        {"cron": "30 2 29 3 *", "end": "2026-03-29T02:00:00Z", "dst": {"skipped": "skip", "doubled": "both"}, **BERLIN},
    ],
)
def test_a_search_for_what_never_comes_ends(fields: dict[str, Any]) -> None:
    made = schedule(**fields)

    assert fires(made, at("2026-01-01T00:00:00"), 3) == []
    assert last_fire(made, at("2026-01-01T00:00:00"), at("2026-06-01T00:00:00")) is None


@pytest.mark.parametrize(
    ("skipped", "found"),
    [
        ("skip", ["2026-03-28 02:30+0100", "2026-03-30 02:30+0200"]),
        ("after", ["2026-03-28 02:30+0100", "2026-03-29 03:00+0200", "2026-03-30 02:30+0200"]),
        ("shift", ["2026-03-28 02:30+0100", "2026-03-29 03:30+0200", "2026-03-30 02:30+0200"]),
    ],
)
def test_a_time_of_day_that_does_not_exist_is_what_the_schedule_says(skipped: str, found: list[str]) -> None:
    made = schedule(cron="30 2 * * *", dst={"skipped": skipped, "doubled": "first"}, **BERLIN)

    assert local(made, "2026-03-27T12:00:00", len(found)) == found


@pytest.mark.parametrize(
    ("doubled", "found"),
    [
        ("first", ["2026-10-25 02:30+0200"]),
        ("second", ["2026-10-25 02:30+0100"]),
        ("both", ["2026-10-25 02:30+0200", "2026-10-25 02:30+0100"]),
    ],
)
def test_a_time_of_day_that_comes_twice_is_what_the_schedule_says(doubled: str, found: list[str]) -> None:
    made = schedule(cron="30 2 * * *", dst={"skipped": "skip", "doubled": doubled}, **BERLIN)

    assert local(made, "2026-10-24T12:00:00", len(found) + 1) == [*found, "2026-10-26 02:30+0100"]


def test_a_cron_for_every_hour_follows_the_time_that_passes() -> None:
    for cron in ("0 * * * *", "*/20 2 * * *"):
        made = schedule(cron=cron, **BERLIN)
        found = [one.logical_at for one in fires(made, at("2026-10-24T23:30:00"), 6)]
        steps = {later - earlier for earlier, later in pairwise(found)}
        assert steps == {timedelta(hours=1)} if cron.startswith("0") else timedelta(minutes=20) in steps
    assert local(schedule(cron="*/30 2 * * *", **BERLIN), "2026-03-28T12:00:00", 1) == ["2026-03-30 02:00+0200"]


def test_clocks_that_are_set_by_half_an_hour_are_known_on_lord_howe() -> None:
    made = schedule(cron="15 2 * * *", zone="Australia/Lord_Howe")
    twice = schedule(cron="45 1 * * *", zone="Australia/Lord_Howe", dst={"skipped": "skip", "doubled": "both"})

    assert local(made, "2026-10-03T12:00:00", 2) == ["2026-10-04 02:30+1100", "2026-10-05 02:15+1100"]
    assert local(twice, "2026-04-04T12:00:00", 2) == ["2026-04-05 01:45+1100", "2026-04-05 01:45+1030"]


def test_a_day_that_a_zone_left_out_is_a_gap_like_any_other() -> None:
    # Samoa went from the 29th to the 31st of December 2011.
    kept = {how: schedule(cron="0 9 * * *", zone="Pacific/Apia", dst={"skipped": how, "doubled": "first"}) for how in
            ("skip", "after", "shift")}  # fmt: skip

    found = {how: [one[8:16] for one in local(made, "2011-12-29T12:00:00", 3)] for how, made in kept.items()}
    assert found["skip"] == ["29 09:00", "31 09:00", "01 09:00"]
    assert found["after"] == ["29 09:00", "31 00:00", "31 09:00"]
    assert found["shift"] == found["skip"]


def test_a_zone_that_changes_its_rules_is_followed() -> None:
    made = schedule(cron="0 12 * * *", zone="Europe/Istanbul")  # has had no winter time since 2016

    assert local(made, "2015-12-31T00:00:00", 1) == ["2015-12-31 12:00+0200"]
    assert local(made, "2016-12-31T00:00:00", 1) == ["2016-12-31 12:00+0300"]


@given(
    every=st.integers(1, 10 * 86_400),
    start=TIMES,
    after=TIMES,
)
def test_an_interval_counts_from_its_start_and_by_the_time_that_passes(
    every: int, start: datetime, after: datetime
) -> None:
    made = schedule(interval={"every_s": every}, start=start.isoformat(), **BERLIN)

    found = [one.logical_at for one in fires(made, after, 3)]

    first = next(n for n in (0, max(0, (after - start) // timedelta(seconds=every)) + 1) if
                 start + n * timedelta(seconds=every) > after)  # fmt: skip
    assert found == [start + (first + n) * timedelta(seconds=every) for n in range(3)]


RULES = st.sampled_from(
    [
        {"cron": "*/17 * * * *"},
        {"cron": "30 2 * * *"},
        {"cron": "0 0 1,15 * *", "exclude": [{"weekdays": ["sun"]}]},
        {"interval": {"every_s": 5_000}},
        {"calendar": {"at": ["02:10", "23:50"], "days": [{"weekdays": ["sun"]}]}},
    ]
)
ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC"])


@given(RULES, ZONES, TIMES, st.integers(1, 200), st.floats(0, 100_000))
@settings(deadline=None)
def test_moments_are_the_same_wherever_one_begins_to_look(
    rule: dict[str, Any], zone: str, begin: datetime, count: int, jitter_s: float
) -> None:
    made = schedule(**rule, zone=zone, jitter_s=jitter_s)
    found = fires(made, begin, count)
    logical = [one.logical_at for one in found]

    place = count // 2
    assert fires(made, logical[place], count - place - 1) == found[place + 1 :]
    assert logical == sorted(set(logical))
    assert fires_between(made, logical[0], logical[-1], 1_000) == logical[:-1]
    assert last_fire(made, begin, logical[-1]) == logical[-1]
    assert last_fire(made, begin, logical[-1] - timedelta(microseconds=1)) == (logical[-2] if count > 1 else None)


@given(RULES, ZONES, TIMES, st.floats(0, 1_000_000))
@settings(deadline=None)
def test_jitter_is_the_same_each_time_and_never_as_much_as_until_the_next_moment(
    rule: dict[str, Any], zone: str, begin: datetime, jitter_s: float
) -> None:
    made = schedule(**rule, zone=zone, jitter_s=jitter_s)
    found = fires(made, begin, 20)

    assert found == fires(made, begin, 20)
    assert all(timedelta() <= one.due_at - one.logical_at <= timedelta(seconds=jitter_s) for one in found)
    assert all(earlier.due_at <= later.logical_at for earlier, later in pairwise(found))


def test_e11_jitter_spreads_schedules_of_the_same_moment() -> None:
    lates = [
        fires(
            parse_schedule({"name": f"n{n}", "workflow": "w", "cron": "@daily", "jitter_s": 600}),
            at("2026-01-01T00:00:00"),
            1,
        )
        for n in range(200)
    ]
    seconds = [(one.due_at - one.logical_at).total_seconds() for (one,) in lates]

    assert min(seconds) < 60
    assert max(seconds) > 540
    assert 250 < sum(seconds) / 200 < 350


def test_data_is_made_for_the_moment() -> None:
    data = {
        "uri": {"$text": "s3://sales/$year/$month/$day.csv?from=$previous_at"},
        "day": {"$from": "/schedule/date"},
        "about": [{"$from": "/schedule/kind"}, 5, None],
        "price": {"$text": "$$5"},
    }
    told = moment("nightly", ZoneInfo("Europe/Berlin"), at("2026-03-28T23:30:00"), None, "scheduled")

    assert fill(data, told) == {
        "uri": "s3://sales/2026/03/29.csv?from=",
        "day": "2026-03-29",
        "about": ["scheduled", 5, None],
        "price": "$5",
    }
    assert (told["logical_at"], told["local"]) == ("2026-03-28T23:30:00+00:00", "2026-03-29T00:30:00+01:00")
    assert told["weekday"] == "sun"


def test_what_is_started_may_differ_while_the_moments_do_not() -> None:
    made = schedule(cron="@daily")

    assert made.same_moments(schedule(cron="@daily", data={"a": 1}, jitter_s=5, catch_up="all"))
    assert not made.same_moments(schedule(cron="@daily", exclude=[{"dates": ["2026-01-01"]}]))


def test_a_range_of_days_means_both_its_ends() -> None:
    made = schedule(calendar={"at": ["00:00"], "days": [{"from": "2026-02-27", "to": "2026-03-01"}]})

    found = fires_between(made, at("2026-01-01T00:00:00"), at("2027-01-01T00:00:00"), 10)

    assert [one.date() for one in found] == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]
