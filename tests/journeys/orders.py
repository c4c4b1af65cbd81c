"""A small made-up dataset: orders of a shop by month, of which some come back."""

import csv
import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROWS = 2000
DAYS = 28
WAREHOUSES = ("Łódź", "São Paulo", "北京", 'the "Annexe", upstairs')
FAMILIES = ("O'Brien", "Ångström", "Nguyễn", "Smith, junior", "Ωmega", "van 't Hoff")
CUSTOMERS = tuple(f"{family} {number}" for number in range(10) for family in FAMILIES)
#: How readily each customer sends things back: the log of the odds.
INCLINATION = dict(zip(CUSTOMERS, (random.Random(7).gauss(0, 2) for _ in CUSTOMERS), strict=False))
SPOILT = {"price is below 0": 3, "customer is missing": 2, "settled before it was placed": 4}


@dataclass(frozen=True)
class Order:
    """One order, and what came of it."""

    order_no: str
    customer: str
    warehouse: str
    placed_at: datetime
    settled_at: datetime
    price: float
    pieces: int
    returned: bool


@dataclass(frozen=True)
class Landed:
    """A month's file, as it landed.

    Attributes:
        closed_at: When it did.
    """

    month: str
    path: Path
    sha256: str
    closed_at: datetime

    def trigger(self) -> dict[str, str]:
        """Return the data of the event that says so."""
        return {"month": self.month, "uri": self.path.resolve().as_uri(), "sha256": self.sha256}


def orders(month: str, rows: int = ROWS) -> list[Order]:
    """Return a month's orders, always the same."""
    chance = random.Random(month)
    begins = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    return [_order(f"AB-{begins:%m}{number:04}", begins, chance) for number in range(rows)]


def shuffled(of: Sequence[Order]) -> list[Order]:
    """Return orders whose outcomes have been dealt out anew: nothing can be learned from them."""
    outcomes = [order.returned for order in of]
    random.Random(1).shuffle(outcomes)
    return [replace(order, returned=outcome) for order, outcome in zip(of, outcomes, strict=True)]


def land(folder: Path, month: str, of: Sequence[Order], without: str = "") -> Landed:
    """Write a month's file, with a few rows that its contract sets aside, and perhaps without one column."""
    rows = [_written(order) for order in of]
    _spoil(rows)
    path = folder / f"orders-{month}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = [field.name for field in fields(Order) if field.name != without]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    closed_at = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC) + timedelta(days=35)
    return Landed(month, path, hashlib.sha256(path.read_bytes()).hexdigest(), closed_at)


def basket(order: Order) -> dict[str, float]:
    """Return what the shop knows of an order by itself: the features that travel with a request."""
    return {"basket.price": math.log(1 + order.price), "basket.pieces": float(order.pieces)}


def _order(order_no: str, begins: datetime, chance: random.Random) -> Order:
    customer = chance.choice(CUSTOMERS)
    price, pieces = round(chance.lognormvariate(3.5, 0.8), 2), chance.randint(1, 6)
    placed_at = begins + timedelta(seconds=chance.randrange(DAYS * 86400))
    odds = INCLINATION[customer] + 1.5 * (math.log(price) - 3.5) + 0.4 * (pieces - 3)
    return Order(
        order_no=order_no,
        customer=customer,
        warehouse=chance.choice(WAREHOUSES),
        placed_at=placed_at,
        settled_at=placed_at + timedelta(hours=chance.randint(24, 120)),
        price=price,
        pieces=pieces,
        returned=chance.random() < 1 / (1 + math.exp(-odds)),
    )


def _written(order: Order) -> dict[str, str]:
    texts = {name: str(value) for name, value in asdict(order).items()}
    times = {name: getattr(order, name).isoformat() for name in ("placed_at", "settled_at")}
    return texts | times | {"returned": str(order.returned).lower()}


def _spoil(rows: list[dict[str, str]]) -> None:
    spoilt = [
        {"price": "-1"},
        {"customer": ""},
        {"settled_at": "2000-01-01T00:00:00+00:00"},
    ]
    place = iter(range(0, len(rows), 50))
    for change, count in zip(spoilt, SPOILT.values(), strict=True):
        for _ in range(count):
            rows[next(place)].update(change)
