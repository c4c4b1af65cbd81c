"""A training set in memory, and its rows in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from millrace.runtime.errors import InvalidInput
from millrace.training.domain import day_of
from numpy.typing import NDArray

HOUR_US = 3_600_000_000

Floats = NDArray[np.float64]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """The labelled rows of a training set, in order of time.

    Attributes:
        t_us: When each row is scored, microseconds since 1970 UTC, shape (rows,), ascending.
        label: 0 or 1, shape (rows,).
        features: Shape (rows, names), NaN where nothing was known. 32-bit floats, as a deployment takes them.
        names: The features' columns.
        keys: Other columns asked for, by name, each of shape (rows,).
    """

    t_us: NDArray[np.int64]
    label: Floats
    features: Features
    names: tuple[str, ...]
    keys: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.label)

    @property
    def last(self) -> datetime:
        """Return when the last row is scored."""
        return instant(int(self.t_us[-1]))

    def between(self, start: datetime | None, end: datetime | None) -> "Frame":
        """Return the rows with `start` <= t < `end`."""
        low = np.searchsorted(self.t_us, _us(start)) if start else 0
        high = np.searchsorted(self.t_us, _us(end)) if end else len(self)
        return self.take(slice(int(low), int(high)))

    def take(self, rows: slice | NDArray[np.int64]) -> "Frame":
        """Return some of the rows."""
        keys = {name: values[rows] for name, values in self.keys.items()}
        return Frame(self.t_us[rows], self.label[rows], self.features[rows], self.names, keys)

    def sample(self, rows: int, seed: int) -> "Frame":
        """Return at most so many rows, drawn without replacement, still in order of time."""
        if len(self) <= rows:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), rows, replace=False)))

    def columns(self, names: Sequence[str]) -> Features:
        """Return some of the features, in the order asked for, shape (rows, names)."""
        return self.features[:, [self.names.index(name) for name in names]]

    def both_classes(self) -> bool:
        """Return whether both labels occur."""
        return len(self) > 0 and bool(self.label.min() < self.label.max())


def read_frame(path: Path, features: Sequence[str], keys: Sequence[str] = ()) -> Frame:
    """Return a training set's labelled rows.

    Args:
        path: Parquet with `t`, `label`, the features and the keys.
        features: Columns in the order that the model takes them.
        keys: Other columns to read.

    Raises:
        InvalidInput: A column is missing, no row has a label, a label is neither 0 nor 1, or a value is too great.
    """
    missing = sorted({"t", "label", *features, *keys} - set(pq.read_schema(path).names))
    if missing:
        raise InvalidInput(f"the training set has no column {', '.join(missing)}")
    table = pq.read_table(path, columns=list(dict.fromkeys(["t", "label", *features, *keys])))
    t_us = pc.cast(table["t"], pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    label = _floats(table["label"])
    if not np.isin(label[~np.isnan(label)], (0.0, 1.0)).all():
        raise InvalidInput("labels are 0, 1 or null in a training set for a classifier")
    order = np.argsort(t_us, kind="stable")
    order = order[~np.isnan(label[order])]
    if not len(order):
        raise InvalidInput("the training set has no row with a label")
    matrix = np.empty((len(order), len(features)), np.float32)
    for place, name in enumerate(features):
        with np.errstate(over="ignore"):
            matrix[:, place] = _floats(table[name])[order]
        if np.isinf(matrix[:, place]).any():
            raise InvalidInput(f"feature {name} has a value that is beyond 32-bit floats, such as 1e39")
    columns = {name: table[name].to_numpy(zero_copy_only=False).astype(object)[order] for name in keys}
    return Frame(t_us[order], label[order], matrix, tuple(features), columns)


def groups(frame: Frame, by: Sequence[str], timezone: str) -> NDArray[np.int64]:
    """Return each row's group, numbered from 0: the values of some keys and the day, shape (rows,)."""
    numbers = np.unique(_days(frame.t_us, timezone), return_inverse=True)[1]
    for name in by:
        values = np.unique(frame.keys[name].astype(str), return_inverse=True)[1]
        numbers = np.unique(numbers * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    return np.asarray(numbers, np.int64)


def instant(t_us: int) -> datetime:
    """Return the instant so many microseconds after 1970 UTC."""
    return datetime.fromtimestamp(t_us / 1e6, UTC)


def _days(t_us: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    # Offsets change on the hour at most, so that a look-up per hour does for all its rows.
    hours, place = np.unique(t_us // HOUR_US, return_inverse=True)
    days = np.array([day_of(instant(int(hour) * HOUR_US), timezone).toordinal() for hour in hours], np.int64)
    return days[place]


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(), np.float64)
