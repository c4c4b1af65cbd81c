"""What is measured during a soak: of processes, event loops, tables, and of housekeeping each second."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from millrace.contracts import SERVICES
from millrace.contracts.catalogue import catalogue
from millrace.contracts.control import RunEvent
from millrace.runtime.errors import NotFound

from tests.faults.history import History
from tests.faults.stack import Stack

LOOK_S = 1.0
REMOVED = "millrace_housekeeping_removed_total"
TASKS = "millrace_asyncio_tasks"
_WHAT = re.compile(r'what="([^"]*)"')
#: Live rows say what is kept; the size says what dead rows and indexes take besides.
#: Parts of a table, which come and go, count as that table.
TABLES = """
SELECT coalesce(p.relname, s.relname) AS relname, sum(n_live_tup)::bigint AS rows,
    sum(coalesce(pg_total_relation_size(s.relid), 0)) / 1024.0 AS kb
FROM pg_stat_user_tables s LEFT JOIN pg_inherits i ON i.inhrelid = s.relid LEFT JOIN pg_class p ON p.oid = i.inhparent
GROUP BY 1
"""
Points = list[tuple[float, float]]


class Probe:
    """Measures a stack while it works.

    Attributes:
        history: What the clients saw.
        measured: (what, part or table) -> (Unix time, value), in order.
        removed: By service and what it is, how much housekeeping removed in all.
        kept_house: By service, the seconds (Unix time) in which housekeeping removed something.
        held: How many events are held.
        runs: What control told of runs, by type.
        watched: Set once runs are counted.
    """

    def __init__(self, stack: Stack, history: History) -> None:
        self.history = history
        self.measured: dict[tuple[str, str], Points] = defaultdict(list)
        self.removed: dict[tuple[str, str], float] = {}
        self.kept_house: dict[str, set[int]] = {name: set() for name in SERVICES}
        self.held = 0
        self.runs: Counter[str] = Counter()
        self.watched = asyncio.Event()
        self._stack = stack

    @property
    def ended(self) -> int:
        """How many runs have ended, in whichever way."""
        return sum(self.runs[name] for name in ("RunSucceeded", "RunFailed", "RunRefused", "RunCancelled"))

    async def sample(self) -> None:
        """Measure everything once."""
        for name in (*SERVICES, "kafka"):
            process = psutil.Process(self._stack.pid(name))
            own = process.memory_info().rss
            self._add("memory, MB", name, own / 1e6)
            if children := [size for child in process.children(recursive=True) if (size := _rss(child))]:
                self._add("memory, MB", f"{name} and its children", (own + sum(children)) / 1e6)
            self._add("file descriptors", name, process.num_fds())
        backends = list(_backends(self._stack.pid("postgres")))
        self._add("memory, MB", "a backend of postgres", sum(size for size, _ in backends) / len(backends) / 1e6)
        self._add("file descriptors", "a backend of postgres", sum(count for _, count in backends) / len(backends))
        for name in SERVICES:
            self._add("asyncio tasks", name, value(await self._stack.metrics(name), TASKS, name))
        self.held = 0
        for name in SERVICES:
            await self._tables(name)

    async def watch_runs(self) -> None:
        """Count what control tells of runs from now on; until cancelled."""
        async with AIOKafkaConsumer(bootstrap_servers=self._stack.servers) as consumer:
            [topic] = [topic for topic in catalogue() if topic.name == RunEvent.topic]
            consumer.assign(places := [TopicPartition(topic.name, number) for number in range(topic.partitions)])
            await consumer.seek_to_end(*places)
            self.watched.set()
            while True:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    types = (dict(record.headers)["ce_type"].decode() for record in records)
                    self.runs.update(name.rpartition(".")[2] for name in types)

    async def watch_housekeeping(self) -> None:
        """Note in which seconds each service's housekeeping removes something; until cancelled."""
        while True:
            looked = time.time()
            for name in SERVICES:
                for what, count in removed(await self._stack.metrics(name)).items():
                    if count > self.removed.get((name, what), 0.0):
                        self.kept_house[name] |= {int(looked), int(time.time())}
                        self.removed[name, what] = count
            await asyncio.sleep(max(0.0, LOOK_S - (time.time() - looked)))

    def gone(self, what: str) -> int:
        """Return how much of a kind housekeeping removed, in all services."""
        return int(sum(count for (_, kind), count in self.removed.items() if kind == what))

    def latencies(self, op: str, since: float) -> list[tuple[float, float]]:
        """Return, of each request of a kind that was answered, when it was made and how long it took, seconds."""
        begun: dict[str, float] = {}
        found = []
        for entry in self.history.entries:
            if entry.op != op:
                continue
            if entry.outcome == "invoke":
                begun[entry.key] = entry.at
            elif entry.outcome == "ok" and entry.key in begun and begun[entry.key] >= since:
                found.append((begun[entry.key], entry.at - begun[entry.key]))
        return found

    def errors(self) -> list[str]:
        """Return what went wrong for clients."""
        return [f"{e.op}: {e.value}" for e in self.history.entries if e.outcome in {"fail", "unknown"}]

    async def _tables(self, service: str) -> None:
        connection = await asyncpg.connect(self._stack.postgres.dsn(service))
        try:
            for row in await connection.fetch(TABLES):
                self._add("rows", f"{service}.{row['relname']}", row["rows"])
                self._add("size of tables, kB", f"{service}.{row['relname']}", float(row["kb"]))
            self.held += await connection.fetchval("SELECT count(*) FROM held")
        finally:
            await connection.close()

    def _add(self, what: str, whose: str, value: float) -> None:
        self.measured[what, whose].append((time.time(), value))


def value(measured: Mapping[str, float], name: str, service: str) -> float:
    """Return a metric of a service, which has one of that name.

    Raises:
        NotFound: It has none; that is no 0.
    """
    if name not in measured:
        raise NotFound(f"{service} does not measure {name}: of it nothing can be shown")
    return measured[name]


def removed(measured: Mapping[str, float]) -> dict[str, float]:
    """Return by kind how much a service's housekeeping has removed so far."""
    return {
        found[1]: count
        for name, count in measured.items()
        if name.startswith(REMOVED) and (found := _WHAT.search(name))
    }


def _rss(process: psutil.Process) -> int:
    """Return what a process has in memory; nothing of one that has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _backends(pid: int) -> Iterator[tuple[int, int]]:
    """Yield what each of PostgreSQL's processes has by itself, bytes, and its descriptors; some come and go."""
    for backend in (psutil.Process(pid), *psutil.Process(pid).children()):
        with suppress(psutil.NoSuchProcess):
            yield backend.memory_full_info().uss, backend.num_fds()
