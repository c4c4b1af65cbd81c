"""Where runs that have ended are kept: in parts, each for the runs that were made in one stretch of time."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

WIDTHS = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=7),
    timedelta(days=30),
)
PARTS = 10
"""Into at least so many parts is divided what is kept: a part goes whole, so that runs stay a tenth longer at most."""
_MS = timedelta(milliseconds=1)
_RANDOM_BITS = 80


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A stretch of time: the runs that were made in it.

    Attributes:
        first_ms: Its first moment, Unix time, milliseconds; whole minutes.
        end_ms: The moment after its last.
    """

    first_ms: int
    end_ms: int

    @property
    def first_id(self) -> UUID:
        """Return the least id that a run in it can have."""
        return UUID(int=self.first_ms << _RANDOM_BITS)

    @property
    def end_id(self) -> UUID:
        """Return the least id that a run after it can have."""
        return UUID(int=self.end_ms << _RANDOM_BITS)

    @property
    def ends_at(self) -> datetime:
        """Return the moment after its last."""
        return datetime.fromtimestamp(self.end_ms / 1000, UTC)

    @property
    def name(self) -> str:
        """Return what tells it from others, as part of a table's name."""
        return f"{datetime.fromtimestamp(self.first_ms / 1000, UTC):%Y%m%d_%H%M}"


def part_between(first_id: UUID, end_id: UUID) -> Part:
    """Return the part whose runs have ids from one to before another."""
    return Part(made_ms(first_id), made_ms(end_id))


def made_ms(run_id: UUID) -> int:
    """Return when a run was made, Unix time, milliseconds: its id, a UUIDv7, begins with that."""
    return run_id.int >> _RANDOM_BITS


def width_of(retention: timedelta) -> timedelta:
    """Return how long the stretch of a part is, by how long runs are kept."""
    return max((width for width in WIDTHS if width * PARTS <= retention), default=WIDTHS[0])


def missing_parts(run_ids: Iterable[UUID], there: Sequence[Part], width: timedelta) -> list[Part]:
    """Return the parts that are to be made so that each run has its place, none over one that is there."""
    long_ms, parts, made = width // _MS, sorted(there), []
    for at in sorted({made_ms(run_id) for run_id in run_ids}):
        place = bisect_right(parts, at, key=lambda part: part.first_ms)
        before, after = parts[place - 1 : place], parts[place : place + 1]
        if before and at < before[0].end_ms:
            continue
        first = at - at % long_ms
        # Others may be of another length: runs were to be kept for another time then.
        part = Part(
            max([first, *(part.end_ms for part in before)]), min([first + long_ms, *(part.first_ms for part in after)])
        )
        insort(parts, part)
        made.append(part)
    return made
