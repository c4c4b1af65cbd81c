"""A run that waits for an event of a topic, over real services: an outside job says that it is done."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from millrace.contracts.rpc.control.v1.control_pb2 import Run
from millrace.runtime.testing import Server, create_topics, until
from millrace.sdk.publish import CloudEvent, Publisher

from tests.journeys.team import Team, team_of, work


async def told(team: Team, publisher: Publisher, topic: str, job: str) -> CloudEvent:
    event = CloudEvent(type="job.done", source="/cluster", data={"job": job, "uri": f"file:///{job}"})
    await publisher.send(topic, event)
    return event


async def test_a_run_goes_on_by_the_event_of_its_own_job_whether_that_comes_before_or_after_it_waits(
    postgres: Server, broker: Any, tmp_path: Path
) -> None:
    topic = f"jobs-{uuid4().hex[:8]}"
    await create_topics(broker.servers, {topic: 1})
    async with team_of(postgres, broker.servers, tmp_path, "kafka") as team, Publisher(broker.servers) as publisher:
        team.start()
        await team.live()
        trigger = {"name": "jobs", "source": {"topic": topic}, "filter": {"type": "job.done"}, "key": "/data/job"}
        await team.client.apply_trigger(trigger)
        wait = {"event": "jobs", "key": {"$from": "/trigger/data/job"}}
        length = {"table": {"$from": "/tasks/done/output/data/uri"}}
        workflow = {
            "tasks": {
                "first": work(f"{team.queue}.wave", input={"name": "a"}),
                "done": {"wait": wait, "needs": ["first"]},
                "then": work(f"{team.queue}.length", needs=["done"], input=length),
            }
        }

        early = await told(team, publisher, topic, "early")
        await until(lambda: kept(team, early), seconds=30)
        before = await team.run(workflow, {"job": "early"})
        after = await team.run(workflow, {"job": "late"})
        await until(lambda: waits(team, after), seconds=30)
        late = await told(team, publisher, topic, "late")
        ended = [await team.ended(before), await team.ended(after)]

        explained = [await team.client.explain_event("", one.id) for one in (early, late)]

    for run, event, job, matches in zip(ended, (early, late), ("early", "late"), explained, strict=True):
        tasks = {task.name: json.loads(task.output_json) for task in run.tasks}
        assert (run.state, tasks["done"]["id"], tasks["then"]) == ("succeeded", event.id, {"n": len(f"file:///{job}")})
        assert [(one.disposition, one.run_id) for one in matches.matches] == [("delivered", run.run_id)]


async def kept(team: Team, event: CloudEvent) -> bool:
    found = await team.client.explain_event("", event.id)
    return [one.disposition for one in found.matches] == ["waiting"]


async def waits(team: Team, run_id: str) -> bool:
    run: Run = await team.client.run(run_id)
    return any(task.name == "done" and task.state == "waiting" for task in run.tasks)
