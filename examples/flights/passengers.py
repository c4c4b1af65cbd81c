"""The example's app: it asks whether flights will be late, and tells later whether they were.

What a request needs beside the online features (weather, load, delays now, the aeroplane's last leg) the app computes
by `feature.Compute`, that is by the views' own SQL, from the rows that an operations system has at hand.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from millrace.runtime.errors import Unavailable
from millrace.sdk.client import Client
from millrace.sdk.predictions import Prediction, Row
from millrace.sdk.publish import CloudEvent, Publisher

from examples.flights.upstream import Month

MODEL = "flights.arrival_late"
LABELS = "flights.labels"
LATE_MIN = 15
LOOK_BACK = timedelta(days=4)
BATCH = 50
POLL_S = 0.3
KEYS = ("carrier", "flight", "origin", "dest", "tailnum")

# What the views read of each table; nothing else travels.
PLANNED = ("carrier", "flight", "origin", "time_hour", "sched_dep_time", "distance", "dep_delay", "dep_time")
FLOWN = ("dest", "tailnum", "time_hour", "sched_dep_time", "dep_delay", "arr_delay", "arr_time")
WEATHER = ("origin", "time_hour", "humid", "wind_speed", "wind_gust", "precip", "visib")


@dataclass(frozen=True)
class Flight:
    """One flight to be asked about.

    Attributes:
        key: What a label names it by.
        row: What the model is sent.
        late: The truth: 1 when it arrived 15 minutes late or more.
    """

    key: str
    departs: datetime
    row: Row
    late: int


def read_flights(*months: Month) -> pa.Table:
    """Return the flights of some months, as the operations system has them."""
    return pa.concat_tables(_read(month.flights) for month in months)


def read_weather(*months: Month) -> pa.Table:
    """Return the weather of some months."""
    return pa.concat_tables(_read(month.weather) for month in months).select(WEATHER)


async def ask_about(client: Client, before: Month, month: Month, airports: Path, count: int, seed: int) -> list[Flight]:
    """Return flights of a month in a random order, with what the model must be sent for each.

    Args:
        client: Computes the request-time features.
        before: The month before: an aeroplane's last leg may lie in it.
        month: Whose flights.
        airports: The airports' time zones.
        count: How many.
        seed: Of the random order.
    """
    flights = read_flights(before, month)
    first = pc.min(_read(month.flights)["time_hour"]).as_py()
    flights = flights.filter(
        pc.greater_equal(flights["time_hour"], pa.scalar(first - LOOK_BACK, flights["time_hour"].type))
    )
    arrived = flights.filter(pc.and_(pc.is_valid(flights["dep_time"]), pc.is_valid(flights["arr_delay"])))
    mine = arrived.filter(pc.greater_equal(arrived["time_hour"], pa.scalar(first, arrived["time_hour"].type)))
    places = random.Random(seed).sample(range(mine.num_rows), min(count, mine.num_rows))  # noqa: S311 - an order, no secret
    chosen = mine.take(places)
    model = await client.model(MODEL)
    views = sorted({name.partition(".")[0] for name, kind in model.inputs.items() if kind != "BYTES"})
    spine = pa.table({**{key: chosen[key] for key in KEYS}, "t": _scheduled(chosen)})
    sources = {
        "flights": arrived.select(FLOWN),
        "flights__all": flights.select(PLANNED),
        "weather": read_weather(before, month),
        "airports": pa.csv.read_csv(airports).select(("faa", "tzone")),
    }
    features = await client.compute(views, spine, sources)
    return [_flight(spine, features, tuple(model.inputs), chosen, place) for place in range(chosen.num_rows)]


async def predict(client: Client, flights: Sequence[Flight]) -> list[Prediction]:
    """Return the model's answers, in order."""
    found: list[Prediction] = []
    for start in range(0, len(flights), BATCH):
        some = flights[start : start + BATCH]
        found += await client.predict(MODEL, [flight.row for flight in some], [flight.key for flight in some])
    return found


async def travel(client: Client, publisher: Publisher, deployment_id: str, flights: Sequence[Flight]) -> None:
    """Ask about flights and tell how they ended, as many as the canary's judges want, until cancelled."""
    asked = 0
    while True:
        # A part that is being restarted is asked again; the same request and the same label count once.
        with suppress(Unavailable):
            canary = await client.canary(deployment_id)
            if canary.wanted > asked and asked < len(flights):
                some = flights[asked : max(asked + 1, min(canary.wanted, asked + BATCH))]
                await predict(client, some)
                for flight in some:
                    await publisher.send(LABELS, _label(flight, client.namespace), key=flight.key)
                asked += len(some)
                continue
        await asyncio.sleep(POLL_S)


def _label(flight: Flight, namespace: str) -> CloudEvent:
    data = {"model": MODEL, "request_key": flight.key, "label": flight.late}
    return CloudEvent(type="flights.arrived", source="/flights/operations", data=data, namespace=namespace)


def _flight(spine: pa.Table, features: pa.Table, inputs: Sequence[str], chosen: pa.Table, place: int) -> Flight:
    asked = {name: spine[name][place].as_py() for name in spine.column_names}
    values = {name: features[name][place].as_py() for name in features.column_names}
    row = {name: str(asked[name]) if name in asked else _number(values[name]) for name in inputs}
    key = f"{asked['t']:%Y-%m-%d %H:%M} {asked['carrier']}{asked['flight']} {asked['origin']}-{asked['dest']}"
    return Flight(key, asked["t"], row, int(chosen["arr_delay"][place].as_py() >= LATE_MIN))


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _scheduled(flights: pa.Table) -> pa.ChunkedArray:
    clock = flights["sched_dep_time"].cast(pa.int64())
    minutes = pc.subtract(clock, pc.multiply(pc.divide(clock, 100), 100))
    return pc.add(flights["time_hour"], pc.multiply(minutes, 60_000_000).cast(pa.duration("us")))


def _read(path: Path) -> pa.Table:
    options = pa.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    table = pa.csv.read_csv(path, convert_options=options)
    fields = [
        pa.field(field.name, pa.timestamp("us", "UTC"))
        if pa.types.is_timestamp(field.type)
        else pa.field(field.name, pa.int32())
        if pa.types.is_integer(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
