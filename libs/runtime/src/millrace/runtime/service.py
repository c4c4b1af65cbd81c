"""What every service is made of: its database, its consumer, its workers, its server, and how it starts and stops."""

import asyncio
import faulthandler
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import structlog
from google.protobuf.descriptor import ServiceDescriptor
from millrace.contracts.rpc.runtime.v1 import runtime_pb2
from millrace.runtime import held_keys, telemetry
from millrace.runtime.access import Access
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.client import Channels, Token
from millrace.runtime.consume import Consumer, Foreign, Listener, Readers, Replay
from millrace.runtime.database import Database, Transactions
from millrace.runtime.failpoints import failpoint
from millrace.runtime.health import Check, Health
from millrace.runtime.housekeeping import Keeper, Referred, Rule, Unreferenced, runtime_rules
from millrace.runtime.migrate import migrate, missing
from millrace.runtime.outbox import Relay
from millrace.runtime.rpc import RpcServer
from millrace.runtime.rpc.audit import AuditApi
from millrace.runtime.rpc.held import HeldApi
from millrace.runtime.rpc.methods import ForeignMethod
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Start, Subscription, TaskKind
from millrace.runtime.tasks import Workers, guard
from millrace.runtime.tasks.child import preload
from millrace.runtime.telemetry import READY, ROUND_AGE
from millrace.runtime.transaction import Transaction

S = TypeVar("S", bound=Transaction)

STUCK_S = 60.0
LOOKS = 10
CLOSE_S = 8.0
COLLECT_AFTER = 10_000
"""After how many more objects than are gone the collector looks for garbage: a round makes thousands, and none of them
is any (decision 0076). By default it would look ten times in a round."""
ROUND_S = 3.0
CONSUMER = "consumer"

log = structlog.get_logger()


class Service:
    """One service while it runs; made by `service`.

    Attributes:
        artifacts: Objects between services, by digest.
        channels: Connections to the other services.
        ready: Set while it is ready.
        health: Where health and metrics listen.
        rpc: Where calls come in.
    """

    def __init__(self, name: str, settings: ServiceSettings, database: Database) -> None:
        self.name = name
        self.settings = settings
        self.database = database
        self.artifacts = Artifacts(settings.artifacts_url, owner=name)
        self.channels = Channels(settings.endpoints, Token(settings.token_file))
        self.access = Access(
            settings.auth_jwks,
            settings.auth_grants,
            issuer=settings.auth_issuer,
            audience=settings.auth_audience,
            clock=database.clock.time,
        )
        self.rpc = RpcServer(
            name,
            self.access,
            host=settings.grpc_host,
            port=settings.grpc_port,
            most_calls=settings.concurrent_calls,
            calls_per_s=settings.calls_per_s,
        )
        self.ready = asyncio.Event()
        self._ready_checks: dict[str, Check] = {
            "database": self._check_database,
            "broker": self._check_broker,
            "access": self._check_access,
        }
        self.health = Health(
            self._ready_checks, {"consumer": self._check_consumer}, host=settings.http_host, port=settings.http_port
        )
        self._begin = self.transactions(Transaction)
        self._handling: Transactions[Any] = self._begin
        self._readers = Readers(settings.inbox_horizon)
        self._consumers: list[Consumer] = []
        self._workers: Workers | None = None
        self._relay = Relay(database, settings, name)
        self._keeper = Keeper(name, database, settings.housekeeping_every_s)
        self._keeper.add(*runtime_rules(settings, self._begin))
        self._loops: list[Callable[[], Awaitable[None]]] = []
        self._stopping = asyncio.Event()
        self._migrated = False

    def transactions(self, store: type[S]) -> Transactions[S]:
        """Return what opens transactions of a Store: `async with begin() as tx`."""
        return Transactions(self.database, store)

    def subscribe(
        self, subscriptions: Iterable[Subscription], begin: Transactions[Any], tasks: Sequence[TaskKind] = ()
    ) -> None:
        """React to facts, and take the kinds of tasks given."""
        self._handling = begin
        self._readers.subscribe(*subscriptions)
        if tasks:
            # Work that is bound to plain values is a `partial`; its module is its function's.
            guard.start()
            preload(sorted({getattr(kind.work, "func", kind.work).__module__ for kind in tasks}))
            self._workers = Workers(self.name, self.settings, begin, tasks, self.artifacts, self.channels)
            self._readers.subscribe(*self._workers.subscriptions)

    def follow_queues(self, rows: Callable[[str], Iterable[Subscription]]) -> None:
        """React also to what is said of the tasks of teams' queues, from soon after each queue's topics are made.

        Args:
            rows: Returns those of a queue; they are handled as those of `subscribe` are.
        """
        self._readers.follow_queues(rows)

    def listen(
        self,
        topics: Callable[[], Iterable[str]],
        function: Foreign,
        begin: Transactions[Any],
        *,
        start: Start = "earliest",
    ) -> None:
        """Take the records of topics that are not ours as received; which topics may change while running.

        The function must bear to see a record twice: no inbox stands before it.
        """
        self._handling = begin
        self._readers.listen(Listener(topics, function, start))

    def serve(self, descriptor: ServiceDescriptor, servicer: object, begin: Transactions[Any]) -> None:
        """Answer the RPCs of one of our protos."""
        self.rpc.serve(descriptor, servicer, begin)

    def serve_foreign(
        self,
        service: str,
        methods: Mapping[str, ForeignMethod],
        begin: Transactions[Any],
        descriptor: ServiceDescriptor | None = None,
    ) -> None:
        """Answer the RPCs of a protocol that is not ours."""
        self.rpc.serve_foreign(service, methods, begin, descriptor)

    def housekeep(self, *rules: Rule) -> None:
        """Remove what these rules name, beside what goes in every service."""
        self._keeper.add(*rules)

    def collect(self, begin: Transactions[S], referred: Referred[S]) -> None:
        """Remove artifacts that this service wrote and of which `referred` knows nothing."""
        found = Unreferenced(self.artifacts.shelves, self.name, begin, referred, self.settings.artifact_grace)
        self._keeper.add(Rule("artifact", found.batches))

    def background(self, *loops: Callable[[], Awaitable[None]]) -> None:
        """Run loops beside everything else; each is cancelled when the service stops, and stops it when it fails."""
        self._loops += loops

    def ready_when(self, name: str, check: Check) -> None:
        """Be ready only while `check` returns nothing; what it returns is the reason shown."""
        self._ready_checks[name] = check

    def stop(self) -> None:
        """Drain, as on SIGTERM."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`, then drain.

        Raises:
            ExceptionGroup: A part of the service failed in a way that nobody foresaw; the process is to be restarted.
        """
        self._add_runtime_rpcs()
        self._add_consumers()
        if self._workers:
            await self._workers.recover()
        with _seldom_collected():
            failed = await self._run()
        for error in failed:
            log.error("service_failed", service=self.name, exc_info=error)
        if failed:
            raise BaseExceptionGroup(f"{self.name} failed", failed)

    async def _run(self) -> list[BaseException]:
        """Serve until stopped, then drain; return what has failed."""
        async with self.health:
            port = await self.rpc.start()
            parts = [asyncio.create_task(self._relay.run(), name="relay")]
            parts += [asyncio.create_task(consumer.run(), name=CONSUMER) for consumer in self._consumers]
            workers = [asyncio.create_task(self._workers.run(), name="workers")] if self._workers else []
            own = (self._keeper.run, self._follow_readiness, self._end_when_stuck, self._watch_keys)
            loops = [asyncio.ensure_future(loop()) for loop in (*self._loops, *own)]
            log.info("service_started", service=self.name, grpc_port=port, http_port=self.health.port)
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait((stopping, *parts, *workers, *loops), return_when=asyncio.FIRST_COMPLETED)
            await self._drain(parts, workers, [*loops, stopping])
        return [e for p in (*parts, *workers, *loops) if p.done() and not p.cancelled() and (e := p.exception())]

    async def _follow_readiness(self) -> None:
        async def tell(ready: bool) -> None:  # noqa: FBT001 - what Health tells
            (self.ready.set if ready else self.ready.clear)()
            READY.labels(self.name).set(ready)
            await self.rpc.set_serving(serving=ready)
            log.info("service_ready" if ready else "service_not_ready", service=self.name)

        await self.health.follow(tell)

    async def _watch_keys(self) -> None:
        await held_keys.watch(self._begin, self.name)

    async def _end_when_stuck(self) -> None:
        """Put off the end of the process, at which it shows where each thread is, while all goes on."""
        # Seldom: each time a thread is ended and another one made, for which the loop waits.
        every_s = self.settings.stuck_s / LOOKS
        try:
            while True:
                if not await self._check_consumer():
                    faulthandler.dump_traceback_later(self.settings.stuck_s + every_s, exit=True, file=2)
                await asyncio.sleep(every_s)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _add_consumers(self) -> None:
        for foreign, wanted in ((False, self._readers.own()), (True, self._readers.listens)):
            if wanted:
                made = Consumer(self.name, self.settings, self._handling, readers=self._readers, foreign=foreign)
                self._consumers.append(made)
        ROUND_AGE.labels(self.name).set_function(
            lambda: max((consumer.round_age_s() for consumer in self._consumers), default=0.0)
        )

    def _add_runtime_rpcs(self) -> None:
        services = runtime_pb2.DESCRIPTOR.services_by_name
        replay = Replay(self.name, self.settings, self.database, self._readers)
        held = HeldApi(self.name, replay, self.settings.replays_per_s)
        self.rpc.serve(services["HeldService"], held, self._handling)
        self.rpc.serve(services["AuditService"], AuditApi(self.name), self._begin)

    async def _drain(
        self,
        parts: Sequence[asyncio.Task[None]],
        workers: Sequence[asyncio.Task[None]],
        rest: Sequence[asyncio.Future[Any]],
    ) -> None:
        log.info("service_draining", service=self.name)
        self.health.draining = True
        await failpoint("service.draining")
        self.ready.clear()
        if self._workers:
            self._workers.preempt()
        await self.rpc.set_serving(serving=False)
        for part in rest:
            part.cancel()
        for consumer in self._consumers:
            consumer.stop()
        # What the round at hand accepts is drained too, rather than left to lapse.
        await asyncio.wait([part for part in parts if part.get_name() == CONSUMER] or rest, timeout=ROUND_S)
        if self._workers:
            await self._workers.drain(self.settings.drain_s / 2)
        for worker in workers:
            worker.cancel()
        await self.rpc.drain(self.settings.drain_s / 4)
        self._relay.stop()
        await asyncio.wait((*parts, *workers, *rest), timeout=CLOSE_S)
        for part in parts:
            part.cancel()
        await self.channels.close()
        log.info("service_stopped", service=self.name)

    async def _check_database(self) -> str:
        if not await self.database.healthy():
            self._migrated = False
            return "the database does not answer"
        if not self._migrated:
            async with self.database.connection() as connection:
                behind = await missing(connection, self.name)
            self._migrated = not behind  # and is not looked up again until the database was away
            return f"migrations missing: {', '.join(behind)}" if behind else ""
        return ""

    async def _check_broker(self) -> str:
        return next(filter(None, (consumer.out_of_touch() for consumer in self._consumers)), "")

    async def _check_access(self) -> str:
        try:
            self.access.check()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the files, everybody is denied
            return f"keys or grants cannot be read: {type(error).__name__}"
        return ""

    async def _check_consumer(self) -> str:
        return next(filter(None, (consumer.stuck(STUCK_S) for consumer in self._consumers)), "")


@asynccontextmanager
async def service(name: str, settings: ServiceSettings) -> AsyncIterator[Service]:
    """Open a service: logs, traces, its database with all migrations; close all of it at the end.

    Raises:
        Unavailable: The database did not answer in time.
    """
    telemetry.start(name, otlp_endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio)
    dsn = settings.postgres_dsn.get_secret_value()
    async with AsyncExitStack() as stack:
        stack.callback(telemetry.stop, name)
        applied = await migrate(dsn, name, post=settings.post_migrations)
        if applied:
            log.info("migrations_applied", service=name, migrations=applied)
        database = await stack.enter_async_context(Database(dsn, settings.pool_size))
        made = Service(name, settings, database)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError, RuntimeError):  # not in the main thread: whoever runs it there calls `stop`
                loop.add_signal_handler(number, _stop_or_exit, made)
        yield made


def _stop_or_exit(made: Service) -> None:
    if made._stopping.is_set():  # noqa: SLF001 - the same module
        raise SystemExit(1)
    made.stop()


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Have the collector look at nothing that was made so far, and seldom at what is made within."""
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
