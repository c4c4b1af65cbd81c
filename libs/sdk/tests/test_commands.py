"""The `millrace` command against a real control, a real Kafka and a real PostgreSQL; what runs is done by the test."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from millrace.contracts.tasks import TaskDispatched, TaskSucceeded
from millrace.core.yaml import load_workflow
from millrace.runtime import held, held_keys
from millrace.runtime.client import FixedToken
from millrace.runtime.database import Database, Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import Denied, InvalidInput, NotFound
from millrace.runtime.ids import new_id
from millrace.runtime.inbox import first_id
from millrace.runtime.subscriptions import Record
from millrace.runtime.testing import create_topics, publish, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.runtime.transaction import Transaction
from millrace.sdk.cli import app
from millrace.sdk.client import Client
from millrace.sdk.connection import Connection
from millrace.sdk.held import Which
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.postgres import Postgres

MILLRACE = Path(sys.executable).with_name("millrace")
ONE_BY_ONE = """
import shlex, sys
from millrace.sdk.cli import app
for line in sys.stdin:
    app(shlex.split(line)[1:], standalone_mode=False)
    print(end="\\0", flush=True)
"""
SOURCE = "/airport"
WORKFLOW = """
name: monthly
tasks:
  ingest: {kind: data.ingest, input: {uri: {$from: /trigger/data/uri}}}
"""


class World:
    """A running control, the command line that reaches it, and who does what control orders."""

    def __init__(
        self, deployment: Deployment, servers: str, folder: Path, topic: str, orders: AIOKafkaConsumer
    ) -> None:
        self.control = deployment.services["control"]
        self.topic = topic
        self.folder = folder
        self._servers = servers
        self._orders = orders
        self.endpoints = {name: process.target for name, process in deployment.services.items()}
        self.token = deployment.authority.token("dev")
        self.dsn = deployment.settings["control"]["POSTGRES_DSN"]

    def client(self, namespace: str = "demo") -> Client:
        return Client(Connection(self.endpoints, FixedToken(self.token)), namespace=namespace)

    async def start(
        self, *arguments: str, program: Sequence[str] = (str(MILLRACE),), **environment: str
    ) -> asyncio.subprocess.Process:
        ours = {
            "COLUMNS": "300",
            "MILLRACE_ENDPOINTS": json.dumps(self.endpoints),
            "MILLRACE_TOKEN": self.token,
            "MILLRACE_KAFKA_SERVERS": self._servers,
        }
        return await asyncio.create_subprocess_exec(
            *(*program, *arguments),
            cwd=self.folder,
            env=os.environ | ours | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def command(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run a command; return what it said, on stderr where it was to fail."""
        started = await self.start(*arguments, **environment)
        out, err = await asyncio.wait_for(started.communicate(), 60)
        assert started.returncode == status, err.decode()
        return (err if status else out).decode()

    async def commands(self, lines: Sequence[str]) -> list[str]:
        """Run commands in one process, which starts slowly; return what each said."""
        started = await self.start(program=(sys.executable, "-c", ONE_BY_ONE))
        out, err = await asyncio.wait_for(started.communicate("\n".join(lines).encode()), 60)
        assert started.returncode == 0, err.decode()
        return out.decode().split("\0")[:-1]

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.command(*arguments, "--json"))

    async def work(self, event_uri: str) -> str:
        """Do the task that was ordered for an event; return its run."""
        done = await self.done(event_uri)
        await publish(self._servers, [done])
        return str(done.run_id)

    async def done(self, event_uri: str) -> TaskSucceeded:
        """Return what is said when the task that was ordered for an event is done."""
        async with asyncio.timeout(30):
            async for record in self._orders:
                headers = dict(record.headers)
                if headers["ce_type"] != b"millrace.tasks.TaskDispatched":
                    continue
                order = TaskDispatched.model_validate_json(record.value)
                if order.input == {"uri": event_uri}:
                    names = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
                    about = {name: getattr(order, name) for name in names}
                    output = {"good_rows": 26_398}
                    return TaskSucceeded(**about, service=order.queue, output=output, duration_s=1.5, cpu_s=1.0)
        raise AssertionError(f"nothing was ordered for {event_uri}")


@pytest.fixture(scope="module")
async def world(postgres: Postgres, broker: Kafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder, topic = tmp_path_factory.mktemp("commands"), f"landed-{uuid4().hex[:8]}"
    await create_topics(broker.servers, {topic: 1})
    async with deployed(("control",), postgres, broker.servers, folder) as deployment:
        consumer = AIOKafkaConsumer("control.tasks.data", bootstrap_servers=broker.servers)
        async with consumer as orders:
            await orders.seek_to_end()
            world = World(deployment, broker.servers, folder, topic, orders)
            (folder / "workflow.yaml").write_text(WORKFLOW)
            trigger = {"name": "landed", "workflow": "monthly", "source": {"topic": topic}}
            (folder / "trigger.json").write_text(json.dumps(trigger))
            # The trigger is named first and applied last.
            applied = await world.json("apply", "trigger.json", "workflow.yaml")
            assert [(one["kind"], one["unchanged"]) for one in applied] == [("workflow", False), ("trigger", False)]
            yield world


async def test_the_same_declarations_again_are_unchanged(world: World) -> None:
    table = await world.command("apply", "trigger.json", "workflow.yaml")

    assert [line.split()[:3] for line in table.splitlines()[1:]] == [
        ["workflow", "monthly", "unchanged"],
        ["trigger", "landed", "unchanged"],
    ]


async def test_a_module_is_applied_with_the_flows_in_it_and_what_starts_them(world: World) -> None:
    (world.folder / "declared.py").write_text(
        "from datetime import timedelta\n"
        "from millrace.sdk.flows import flow, task\n"
        "do = task('data.do')\n"
        "@flow('in_python')\n"
        "def in_python(trigger):\n"
        "    do(given=trigger.data)\n"
        f"in_python.on('{world.topic}', type='never')\n"
        "in_python.every(timedelta(days=365))\n"
    )
    first = await world.json("apply", "declared")
    again = await world.json("apply", "trigger", "declared.py")

    assert [(one["kind"], one["name"], one["unchanged"]) for one in first] == [
        (kind, "in_python", False) for kind in ("workflow", "trigger", "schedule")
    ]
    assert [(one["kind"], one["unchanged"]) for one in again] == [("trigger", True)]
    assert "there is no module nowhere" in await world.command("apply", "nowhere", status=1)
    told = await world.command("apply", "contract", "declared", status=1)
    assert "no contract in declared: Python declares workflows, triggers and schedules" in " ".join(told.split())


async def test_an_event_published_in_both_modes_under_one_id_is_one_run_that_is_watched_to_its_end(
    world: World,
) -> None:
    event = ("publish", world.topic, "month.landed", SOURCE, "--id", "2013-01", "--data", '{"uri": "file:///1"}')
    await world.command(*event, "--times", "2")
    told = await world.json(*event, "--structured")
    watching = await world.start("run", "watch", "last", "--json")
    first = json.loads(await asyncio.wait_for(watching.stdout.readline(), 30))  # type: ignore[union-attr]

    run_id = await world.work("file:///1")
    rest, _ = await asyncio.wait_for(watching.communicate(), 30)

    assert (told["topic"], told["id"], told["data"]) == (world.topic, "2013-01", {"uri": "file:///1"})
    assert (first["run_id"], first["state"]) == (run_id, "running")
    last = json.loads(rest.splitlines()[-1])
    assert (watching.returncode, last["state"], last["event_id"]) == (0, "succeeded", "2013-01")
    assert last["tasks"][0]["output"] == {"good_rows": 26_398}

    async def explained() -> Any:
        found = await world.json("explain", "event", "2013-01", "--source", SOURCE)
        return found if found["deliveries"] == 3 else None

    assert [match["run_id"] for match in (await until(explained))["matches"] if match["run_id"]] == [run_id]
    assert run_id in await world.command("runs", "--workflow", "monthly", "--in", "succeeded")
    async with world.client() as client:
        assert [run.run_id for run in await client.runs() if run.event_id == "2013-01"] == [run_id]
    shown = await world.command("run", "show", run_id)
    assert "good_rows 26398" in shown
    assert "event 2013-01 of /airport" in shown


async def test_a_trigger_is_paused_and_resumed_and_its_events_and_runs_explain_themselves(world: World) -> None:
    await world.command("trigger", "pause", "landed")
    assert "paused by dev" in await world.command("trigger", "list")
    event = ("publish", world.topic, "month.landed", SOURCE, "--id", "2013-07", "--data", '{"uri": "file:///7"}')
    await world.command(*event)

    async with world.client() as client:

        async def queued() -> Any:
            found = await client.explain_event("", "2013-07")
            return found.received and found.matches[0].disposition == "queued"

        async def told_of() -> Any:
            return (await client.trigger("landed")).HasField("last_match_at")

        assert await until(queued)
        assert await until(told_of)
    assert (await world.json("trigger", "show", "landed"))["last_error"] == ""
    assert "last took an event: 20" in await world.command("trigger", "show", "landed")
    assert "1 events came while it was paused" in await world.command("trigger", "show", "landed")
    assert (await world.json("trigger", "resume", "landed"))["paused_by"] == ""
    run_id = await world.work("file:///7")

    told = await world.command("explain", "run", run_id)
    assert "- trigger landed started it for event 2013-07 of /airport" in told
    assert run_id in await world.command("explain", "event", "2013-07", "--source", SOURCE)
    assert "is not blocked" in await world.command("trigger", "unblock", "landed", status=1)
    assert "no event nothing has come" in await world.command("explain", "event", "nothing")


async def test_a_trigger_that_is_deleted_is_there_no_more(world: World) -> None:
    async with world.client() as client:
        await client.apply_trigger({"name": "gone", "workflow": "monthly", "source": {"topic": world.topic}})

    assert "trigger gone is deleted; 0 runs" in await world.command("trigger", "delete", "gone")
    assert "trigger gone in namespace" in await world.command("trigger", "show", "gone", status=1)
    assert "trigger gone in namespace" in await world.command("trigger", "delete", "gone", status=1)


async def test_a_run_that_is_started_twice_is_one_and_a_cancel_keeps_its_reason(world: World) -> None:
    data = ("--data", '{"uri": "file:///2"}', "--request-id", "again")
    started = await world.json("run", "start", "monthly", *data)
    async with world.client() as client:
        again = await client.start_run("monthly", {"uri": "file:///2"}, request_id="again")

    told = await world.command("run", "cancel", started["run_id"], "--reason", "enough")

    assert started["run_id"] == again.run_id
    assert "cancelled by dev: enough" in told


async def test_m3_a_result_that_is_taken_again_says_whose_it_is_and_a_refresh_computes_anew(world: World) -> None:
    uri = "file:///cached"
    fetch = {"kind": "data.ingest", "input": {"uri": uri}, "cache": {}, "resources": {"cpu": 2}}
    async with world.client() as client:
        late = {"after_s": 3600, "action": "fail"}
        await client.apply_workflow(json.dumps({"name": "cached", "tasks": {"fetch": {**fetch, "deadline": late}}}))
    first = (await world.json("run", "start", "cached"))["run_id"]
    open_ = await world.command("run", "show", first)
    await world.work(uri)
    await world.command("run", "watch", first)

    await world.command("run", "start", "cached", "--watch")
    shown, told = await world.command("run", "show", "last"), await world.command("explain", "run", "last")
    anew = (await world.json("run", "start", "cached", "--refresh"))["run_id"]
    assert await world.work(uri) == anew
    await world.command("run", "watch", anew)

    assert "needs cpu 2" in open_
    assert re.search(r"due \d{4}-\d\d-\d\d", open_)
    whose = rf"from cache: key [0-9a-f]{{12}}, computed by run {first} task fetch at "
    assert re.search(whose, shown)
    assert re.search(whose, told)
    assert "was not in the cache: key" in await world.command("explain", "run", first)
    assert "the run computes all of it anew" in await world.command("run", "show", anew)


async def test_a_workflow_in_force_is_listed_shown_drawn_and_compared(world: World) -> None:
    before = {"name": "drawn", "tasks": {"a": {"kind": "data.x"}}}
    after = {"name": "drawn", "tasks": {"a": {"kind": "data.y"}, "b": {"kind": "data.x", "needs": ["a"]}}}
    file = world.folder / "drawn.yaml"
    file.write_text(json.dumps(after))
    async with world.client() as client:
        await client.apply_workflow(json.dumps(before))

    listed = await world.command("workflow", "list")
    shown = load_workflow(await world.command("workflow", "show", "drawn"))
    picture = await world.command("workflow", "graph", "drawn.yaml", "--as", "dot")
    compared = await world.command("workflow", "diff", "drawn.yaml")
    applied = await world.command("apply", "workflow", "drawn.yaml")

    assert "drawn" in listed
    assert shown.document()["tasks"] == before["tasks"]
    assert "t_a -> t_b;" in picture
    assert compared.split("\n")[:2] == ["~ a: kind", "+ b: data.x"]
    assert "~ a: kind" in applied


async def test_the_items_that_failed_are_shown_alone_and_the_rest_page_by_page(world: World) -> None:
    item = {"tasks": {"nap": {"wait": {"for_s": {"$from": "/item/each"}}}}}
    each = {"foreach": {"items": [0.001, "long", 0.001], "tolerate": {"count": 1}, "do": item}}
    async with world.client() as client:
        await client.apply_workflow(json.dumps({"name": "naps", "tasks": {"each": each}}))
        run = [one async for one in client.watch_run((await client.start_run("naps")).run_id)][-1]
        first = await client.run_page(run.run_id, limit=1)
        second = await client.run_page(run.run_id, limit=1, after=first.next_after)

    failed = await world.command("run", "show", run.run_id, "--items", "failed")
    rest = await world.json("run", "show", run.run_id, "--after", first.next_after)

    assert run.state == "succeeded"
    assert [[one.name for one in page.run.tasks if one.name.endswith("]")] for page in (first, second)] == [
        ["each[1]"],
        ["each[0]"],
    ]
    assert "[1]" in failed
    assert "[0]" not in failed
    assert [one["name"] for one in rest["tasks"]] == ["each", "each[0]", "each[0].nap", "each[2]", "each[2].nap"]
    assert rest["next_after"] == ""


async def test_a_subflow_that_is_not_there_yet_is_warned_of_until_it_is(world: World) -> None:
    outer = {"name": "early", "tasks": {"sub": {"subflow": {"workflow": "comes.later"}}}}
    (world.folder / "early.yaml").write_text(json.dumps(outer))
    (world.folder / "later.yaml").write_text(json.dumps({"name": "comes.later", "tasks": {"a": {"kind": "data.x"}}}))

    alone = await world.command("apply", "early.yaml")
    (told,) = await world.json("apply", "early.yaml")
    together = await world.command("apply", "early.yaml", "later.yaml")

    missing = "tasks.sub.subflow.workflow: there is no workflow comes.later in namespace"
    assert f"warning: workflow early: {missing}" in alone
    assert told["warnings"][0].startswith(missing)
    assert "warning" not in together


NIGHTLY = """
name: nightly
workflow: monthly
cron: 30 2 * * *
zone: Europe/Berlin
data: {uri: {$text: "file:///$date"}}
"""


async def test_a_schedule_is_previewed_applied_paused_shown_and_deleted(world: World) -> None:
    (world.folder / "nightly.yaml").write_text(NIGHTLY)
    preview = await world.json("schedule", "preview", "nightly.yaml", "--count", "3", "--after", "2026-03-28T00:00:00Z")
    applied = await world.command("schedule", "apply", "nightly.yaml")
    listed = await world.command("schedule", "list")
    paused = await world.command("schedule", "pause", "nightly")
    async with world.client() as client:
        again = await client.schedules.apply(NIGHTLY)
        resumed = await client.schedules.resume("nightly")
        found = await client.schedules.preview("nightly", count=2)
    deleted = await world.json("schedule", "delete", "nightly")

    nights = ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert [one["local"] for one in preview] == nights
    assert "schedule nightly is in force; next " in applied
    assert "30 2 * * * Europe/Berlin" in listed
    assert "paused by dev" in paused
    assert (again.unchanged, again.schedule.HasField("next_at")) == (True, False)
    assert resumed.next_at == found[0].due_at
    assert deleted == {"cancelled_runs": 0, "cancelled_backfills": 0}


async def test_a_backfill_is_planned_done_shown_and_cancelled(world: World) -> None:
    async with world.client() as client:
        await client.schedules.apply(NIGHTLY)
    january = ("schedule", "backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03")

    planned = await world.json(*january, "--dry-run")
    begun = (await world.json(*january))["backfill"]
    run_id = await world.work("file:///2026-01-01")
    shown = await world.command("run", "show", run_id)
    stopped = await world.json("schedule", "cancel-backfill", "nightly", begun["backfill_id"], "--runs")
    told = await world.command("schedule", "show", "nightly")
    async with world.client() as client:
        await client.schedules.delete("nightly")

    nights = ["2026-01-01T02:30:00+01:00", "2026-01-02T02:30:00+01:00"]
    assert [one["local"] for one in planned["would_start"]] == nights
    states = (planned["backfill"]["state"], begun["state"], stopped["state"])
    assert states == ("planned", "running", "cancelled")
    assert f"schedule nightly   backfill in backfill {begun['backfill_id']} for {nights[0]}" in shown
    assert run_id in told


PEOPLE = """
name: people
tasks:
  labels: {wait: {signal: labels_ready}}
  ok:
    needs: [labels]
    approve: {title: {$from: /tasks/labels/output/about}, form: {budget: {type: number}}, need: 1}
output: {votes: {$from: /tasks/ok/output/votes}}
"""


POOLS_PAGE = (Path(__file__).resolve().parents[3] / "docs/pools.md").read_text()


async def test_a_pool_lets_in_as_many_as_it_has_slots_and_who_waits_sees_why(world: World) -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", POOLS_PAGE, re.DOTALL)
    (world.folder / "fit.yaml").write_text(written)
    blocks = re.findall(r"```sh\n(.*?)```", POOLS_PAGE, re.DOTALL)
    pool, apply, start, show, explain, listing, show_pool, quota, show_quota = "".join(blocks).splitlines()
    refused = await world.command("apply", "workflow", "fit.yaml", status=1)

    said, _, _, _, _, shown, explained, listed, held, larger, limited, standing = await world.commands(
        [
            pool.replace("--slots 4", "--slots 1"),
            apply,
            *(start.replace("research", "ops"), start, start.replace("research", "ops")),
            *(show, explain, listing, f"{show_pool} --json", pool, f"{quota} --json", show_quota),
        ]
    )

    assert "there is no pool gpu: `millrace pool apply gpu --slots N` makes one" in refused
    assert "pool gpu is in force: 0 of 1 slots taken, 0 tasks wait, at most 100 in 60 s, shares research 3" in said
    assert "queued" in shown
    assert "waits for a slot of pool gpu: 1 before it; 1 of 1 slots taken" in shown
    assert "task fit waits for a slot of pool gpu: 1 before it" in explained
    assert listed.splitlines()[1].split()[:5] == ["gpu", "1", "1", "1", "2"]
    assert [use["task"] for use in json.loads(held)["holders"]] == ["fit"]
    assert [use["fairness_key"] for use in json.loads(held)["waiters"]] == ["research", "ops"]
    assert "pool gpu is in force: 3 of 4 slots taken, 0 tasks wait" in larger, "at once"
    assert json.loads(limited)["quota"]["max_leases"] == 20
    assert standing.strip() == "namespace demo: at most 20 tasks hold slots at once; 3 do now, 0 wait"
    assert "3 tasks hold slots" in await world.command("pool", "delete", "gpu", status=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "10"), "--rate is '10': how many in how long, such as 10/s"),
        (("--share", "research"), "--share is 'research': a fairness key and a whole number"),
        (("--share", "research=99999999"), "at most 1000000"),
        (("--burst", "3"), "--burst is of a rate"),
    ],
)
def test_an_option_of_a_pool_that_makes_no_sense_says_what_would(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        app(["pool", "apply", "gpu", "--slots", "1", *options], standalone_mode=False)

    assert said in capsys.readouterr().err


async def test_a_signal_and_an_approval_move_a_run_on_and_who_started_it_may_not_approve(world: World) -> None:
    async with world.client() as client:
        await client.apply_workflow(PEOPLE)
    run_id = (await world.json("run", "start", "people"))["run_id"]
    await world.command("run", "signal", run_id, "labels_ready", "--data", '{"about": "better by 3%"}')

    waiting = await world.command("approvals")
    refused = await world.command("run", "approve", run_id, "ok", "--form", '{"budget": 3}', status=1)

    assert "better by 3%" in waiting
    assert "budget" in waiting
    assert "dev started the run, and so may not decide on its task ok" in refused


async def test_what_cannot_be_read_is_held_and_can_be_shown_replayed_and_dropped(world: World) -> None:
    await _write_poison(world)

    async with world.client("") as client:

        async def held() -> Any:
            return [one for one in (await client.held.list()).events if one.place.topic == world.topic]

        (one,) = await until(held)
    place = str(one.place)
    listed = await world.command("held", "list")
    shown = await world.command("held", "show", place)
    still = await world.command("held", "replay", place, status=1)
    dropped = await world.json("held", "drop", place)

    assert "not asked, as they do not answer: data, feature, training, inference, lineage, observability" in listed
    assert [line.split()[:2] for line in listed.splitlines() if world.topic in line] == [[place, "dead"]]
    assert "not JSON" in listed
    assert "ce_id: broken" in shown
    assert "{no JSON" in shown
    assert f"{place} is held still" in still
    assert dropped == {"dropped": 1, "failed": 0, "reason": ""}
    assert world.topic not in await world.command("held", "list")


@pytest.fixture
async def waiting(world: World) -> AsyncIterator[dict[str, list[str]]]:
    """Two parked keys with the ids of their events: of EWR, held three hours ago, and of JFK, held just now."""
    ids = {key: [f"{key}-{n}-{uuid4().hex[:8]}" for n in range(2)] for key in ("EWR", "JFK")}
    async with Database(world.dsn, pool_size=1) as database, Transactions(database, Transaction)() as tx:
        for partition, (key, type_, reason) in enumerate(
            (("EWR", "month.landed", "fog"), ("JFK", "day.landed", "ice"))
        ):
            for offset, event_id in enumerate(ids[key]):
                await held_keys.park(tx, "control", _record(world, partition, offset, key, event_id, type_), reason, 5)
        dead = _record(world, 2, 0, "BOS", "dead", "day.landed")
        held.hold(tx, "control", dead, "never")
        tx.write("UPDATE held SET held_at = held_at - interval '3 hours' WHERE key = $1", b"EWR")
    yield ids
    await world.command("held", "drop", "--service", "control", "--topic", world.topic)


def _record(world: World, partition: int, offset: int, key: str, event_id: str, type_: str) -> Record:
    own = {"ce_specversion": "1.0", "ce_id": event_id, "ce_source": SOURCE, "ce_type": type_}
    headers = tuple((name, text.encode()) for name, text in own.items())
    return Record(world.topic, partition, 100 + offset, key.encode(), b'{"uri": "file:///9"}', headers, 0)


async def _parked(world: World) -> list[str]:
    async with world.client("") as client:
        return [one.key.key.decode() for one in await client.held.keys(Which("control", world.topic))]


@pytest.mark.parametrize(
    ("asked", "key", "other"),
    [
        ("--key EWR", "EWR", "JFK"),
        ("--until 2h", "EWR", "JFK"),
        ("--since 2h", "JFK", "EWR"),
        ("--type day.landed", "JFK", "EWR"),
        ("--in parked --reason FOG --until 2h", "EWR", "JFK"),
    ],
)
async def test_a_filter_unparks_the_keys_that_such_events_wait_behind_and_no_others(
    world: World, waiting: dict[str, list[str]], asked: str, key: str, other: str
) -> None:
    which = ("--service", "control", *asked.split())
    shown = await world.command("held", "keys", *which)
    counted = await world.json("held", "unpark", *which, "--dry-run")
    before = await _parked(world)
    drained = await world.json("held", "unpark", *which)

    assert (key in shown, other in shown) == (True, False)
    assert (counted, sorted(before)) == ({"matched": 2}, ["EWR", "JFK"])
    assert drained == {"handled": 2, "failed": 0, "reason": ""}
    assert await _parked(world) == [other]
    assert await _handled(world, waiting[key]) == waiting[key]
    assert await _handled(world, waiting[other]) == []


async def _handled(world: World, event_ids: list[str]) -> list[str]:
    """Return those of the events that a run was started by, in that order."""
    async with world.client() as client:
        runs = sorted(await client.runs(), key=lambda run: run.run_id)
    return [run.event_id for run in runs if run.event_id in event_ids]


@pytest.mark.parametrize("named", ["id", "place"])
async def test_an_event_that_is_named_is_listed_alone_and_its_key_is_unparked_whole(
    world: World, waiting: dict[str, list[str]], named: str
) -> None:
    last = waiting["EWR"][-1]
    what = last if named == "id" else f"control:{world.topic}:0:101"

    listed = await world.json("held", "list", what)
    shown = await world.command("held", "keys", what)
    counted = await world.command("held", "unpark", what, "--dry-run")
    drained = await world.json("held", "unpark", what)

    assert [one["event_id"] for one in listed["held"]] == [last]
    assert ("EWR" in shown, "JFK" in shown) == (True, False)
    assert counted == "2 would be handled\n"
    assert drained["handled"] == 2
    assert await _parked(world) == ["JFK"]
    assert await _handled(world, waiting["EWR"]) == waiting["EWR"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("unpark --service control --in dead", "a dead one is replayed or dropped"),
        ("keys --service control --in dead", "a dead one is replayed or dropped"),
        ("unpark dead", "no event dead is parked: `millrace held list dead` shows it; a dead one is replayed"),
        ("unpark nothing", "no event nothing is held; not asked, as they do not answer: data"),
        ("unpark dead --reason other", "no event dead is held that the options let through"),
    ],
)
async def test_what_would_unpark_other_keys_than_was_said_is_refused(
    world: World, waiting: dict[str, list[str]], arguments: str, said: str
) -> None:
    told = await world.command("held", *arguments.split(), status=1)

    assert told.startswith("millrace: ")
    assert said in told
    assert sorted(await _parked(world)) == sorted(waiting)


@pytest.fixture
async def dead(world: World) -> AsyncIterator[list[str]]:
    """The ids of three events that are held as dead, and could be handled by now."""
    ids = [f"dead-{uuid4().hex[:8]}" for _ in range(3)]
    async with Database(world.dsn, pool_size=1) as database, Transactions(database, Transaction)() as tx:
        for offset, event_id in enumerate(ids):
            held.hold(tx, "control", _record(world, 3, offset, event_id, event_id, "day.landed"), "rain")
    yield ids
    await world.command("held", "drop", "--service", "control", "--topic", world.topic)


@pytest.mark.parametrize(("command", "done"), [("replay", "handled"), ("drop", "dropped")])
async def test_a_dry_run_only_counts_and_no_more_events_than_the_rate_says_go_in_a_second(
    world: World, dead: list[str], command: str, done: str
) -> None:
    which = ("--service", "control", "--reason", "rain")
    counted = await world.json("held", command, *which, "--dry-run")
    told = await world.command("held", command, *which, "--dry-run")
    left = await world.json("held", "list", *which)
    before = await _pages(world)

    outcome = await world.json("held", command, *which, "--rate", "4/s")

    first, *_, last = at = (await _pages(world))[len(before) :]
    assert (counted, told) == ({"matched": 3}, f"3 would be {done}\n")
    assert sorted(one["event_id"] for one in left["held"]) == sorted(dead)
    assert outcome == {done: 3, "failed": 0, "reason": ""}
    assert len(at) >= len(dead), "an event a page"
    assert last - first > (len(dead) - 1) * timedelta(seconds=0.2), "a quarter of a second apart, or nearly"
    assert not (await world.json("held", "list", *which))["held"]
    assert sorted(await _handled(world, dead)) == (sorted(dead) if done == "handled" else [])


async def _pages(world: World) -> list[datetime]:
    """Return when control has handled a page of held events: each is one row of its audit."""
    async with Database(world.dsn, pool_size=1) as database, Transactions(database, Transaction)() as tx:
        rows = await tx.fetch("SELECT time FROM request WHERE method LIKE '%Held%' ORDER BY time")
    return [row["time"] for row in rows]


async def test_what_is_too_old_to_deduplicate_is_replayed_once_that_is_accepted(world: World) -> None:
    event = ("publish", world.topic, "month.landed", SOURCE, "--id", "old", "--data", '{"uri": "file:///old"}')
    await world.command(*event)
    done = await world.done("file:///old")
    now = datetime.now(UTC)
    long_ago = UUID(int=first_id(now - timedelta(days=9)).int | (new_id().int & ((1 << 80) - 1)))
    headers = tuple((name, text.encode()) for name, text in headers_of(done, long_ago, now, None, "").items())
    value = done.model_dump_json().encode()
    record = Record(done.topic_name(), 0, 1_000_000, done.key().encode(), value, headers, 0)
    async with Database(world.dsn, pool_size=1) as database, Transactions(database, Transaction)() as tx:
        held.hold(tx, "control", record, "too old to deduplicate")
    which = ("--service", "control", "--topic", done.topic_name())

    refused = await world.command("held", "replay", *which, status=1)
    replayed = await world.json("held", "replay", *which, "--accept-duplicate")

    assert "replay it with --accept-duplicate if it was not handled before" in refused
    assert replayed == {"handled": 1, "failed": 0, "reason": ""}
    assert (await world.json("run", "show", str(done.run_id)))["state"] == "succeeded"
    assert not (await world.json("held", "list", *which))["held"]


async def _write_poison(world: World) -> None:
    headers = {"ce_specversion": "1.0", "ce_id": "broken", "ce_source": SOURCE, "ce_type": "month.landed"}
    async with AIOKafkaProducer(bootstrap_servers=world._servers) as producer:
        sent = [(name, text.encode()) for name, text in headers.items()]
        await producer.send_and_wait(world.topic, b"{no JSON", headers=sent)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "start", "other"), "workflow other in namespace demo"),
        (("publish", "nowhere", "t", "/s"), "topic nowhere does not exist"),
    ],
)
async def test_a_services_error_is_one_line(world: World, arguments: tuple[str, ...], said: str) -> None:
    told = await world.command(*arguments, status=1)

    assert told.startswith("millrace: ")
    assert said in told
    assert len(told.splitlines()) == 1


async def test_a_service_that_does_not_answer_is_named_with_how_to_start_it(world: World) -> None:
    gone = {"MILLRACE_ENDPOINTS": '{"control": "127.0.0.1:1"}'}

    assert await world.command("runs", status=1, **gone) == (
        "millrace: control does not answer: look with `millrace status`, start it with `millrace up`\n"
    )


async def test_a_watch_goes_on_when_control_is_killed_and_started_again(world: World) -> None:
    async with world.client() as client:
        run_id = (await client.start_run("monthly", {"uri": "file:///3"})).run_id
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def watch() -> None:
            async for run in client.watch_run(run_id):
                await seen.put(run.state)

        watching = asyncio.create_task(watch())
        before = await seen.get()
        world.control.kill()
        await world.control.start()
        await world.work("file:///3")
        await asyncio.wait_for(watching, 30)

    assert before == "running"
    states = [seen.get_nowait() for _ in range(seen.qsize())]
    assert states[-1] == "succeeded"
    assert states.count("succeeded") == 1


async def test_an_app_gets_the_errors_that_the_service_raised(world: World) -> None:
    async with world.client() as client:
        with pytest.raises(NotFound, match="workflow other"):
            await client.start_run("other")
        with pytest.raises(InvalidInput, match="run_id"):
            await client.run("1")
    async with Client(Connection(world.endpoints, FixedToken("a.b.c"))) as stranger:
        with pytest.raises(Denied):
            await stranger.runs()


RUNS = (Path(__file__).resolve().parents[3] / "docs/runs.md").read_text()


def shown(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", RUNS, re.DOTALL)


def session() -> list[tuple[str, list[str]]]:
    """The commands on the page, each with the lines that it prints."""
    told: list[tuple[str, list[str]]] = []
    for line in "".join(shown("console")).splitlines():
        if line.startswith("$ "):
            told.append((line.removeprefix("$ "), []))
        else:
            told[-1][1].append(line)
    return told


def is_so(line: str, pattern: str) -> bool:
    parts = (r"\s+".join(map(re.escape, part.split())) for part in pattern.split("…"))
    return re.fullmatch(r"\s*" + r"\s*.*\s*".join(parts) + r"\s*", line, re.DOTALL) is not None


async def test_the_session_on_the_page_about_runs_goes_as_it_says(world: World) -> None:
    (workflow,) = shown("yaml")
    async with world.client() as client:
        await client.apply_workflow(workflow)

    told = session()
    assert len(told) > 10
    for (command, expected), out in zip(told, await world.commands([line for line, _ in told]), strict=True):
        assert is_so(out, " ".join(expected)), f"{command}: {out}"


async def test_the_program_on_the_page_about_runs_stops_them(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = shown("python")
    names: dict[str, Any] = {}
    exec(compile(program, "docs/runs.md", "exec"), names)  # noqa: S102 - our own page
    async with world.client() as client:
        await client.apply_workflow(shown("yaml")[0])
        run = await client.start_run("nightly", {"uri": "s3://lake/day2"})
        await names["stop_all"](client)

    assert f"{run.run_id} changed run: running -> ending load: dispatched -> cancelling" in capsys.readouterr().out


async def test_many_runs_are_told_as_json_and_a_command_says_which_it_is_about(world: World) -> None:
    async with world.client() as client:
        await client.apply_workflow(shown("yaml")[0])
        run_id = (await client.start_run("nightly", {"uri": "s3://lake/day3"})).run_id

    many, one = await world.commands(
        [
            "millrace run pause --workflow nightly --in running --reason so --json",
            f"millrace run resume {run_id} --json",
        ]
    )
    both = await world.command("run", "pause", run_id, "--all", status=1)

    assert (run_id, "paused", "changed") in [(x["run_id"], x["state"], x["outcome"]) for x in json.loads(many)]
    assert (json.loads(one)["run"]["run_id"], json.loads(one)["changes"]) == (run_id, ["run: paused -> running"])
    assert f"{run_id} is one run: leave it out" in both


async def test_an_operation_on_one_run_is_done_once_however_often_it_is_asked_for_under_one_request_id(
    world: World,
) -> None:
    async with world.client() as client:
        await client.apply_workflow(shown("yaml")[0])
        run_id = (await client.start_run("nightly", {"uri": "s3://lake/day4"})).run_id

    again = f"millrace run rerun {run_id} --request-id after-the-move --json"
    _, first, second = await world.commands([f"millrace run cancel {run_id} --force", again, again])
    async with world.client() as client:
        third = await client.rerun_run(run_id, request_id="after-the-move")
        other = await client.rerun_run(run_id)

    assert json.loads(first) == json.loads(second)
    assert json.loads(first)["run"]["run_id"] == third.run.run_id != other.run.run_id
