"""The catalogue becomes topics."""

import asyncio
import subprocess
import sys
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from millrace.contracts.catalogue import catalogue
from millrace.runtime.topics import create_topics


async def partitions(servers: str) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()


async def test_the_command_makes_every_topic_once(broker: Any) -> None:
    wanted = {topic.name: topic.partitions for topic in catalogue()}

    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "millrace.runtime.topics", broker.servers)

    assert await process.wait() == 0
    there = await partitions(broker.servers)
    assert set(wanted) <= set(there)
    assert await create_topics(broker.servers, catalogue()) == []


def test_a_broker_that_does_not_answer_is_said_so_in_one_line() -> None:
    command = [sys.executable, "-m", "millrace.runtime.topics", "127.0.0.1:1"]

    ended = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("the topics could not be made at 127.0.0.1:1")
