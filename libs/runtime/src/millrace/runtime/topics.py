"""Topics are made from the catalogue, and nowhere else.

Run once before the services of a new installation, and after an upgrade:
`python -m millrace.runtime.topics kafka:9092 --replication-factor 3`.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from millrace.contracts.catalogue import Topic, catalogue
from millrace.runtime.errors import Unavailable

AS_THE_OTHERS = 0
"""As many copies of each partition as the topics have that are there."""


async def create_topics(servers: str, topics: Iterable[Topic], *, replication_factor: int = 1) -> list[str]:
    """Make the topics that are missing; return their names.

    Raises:
        Unavailable: The broker does not answer, or refused one.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        there = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in there]
        copies = replication_factor or await _copies(admin)
        answer = await admin.create_topics([_new(topic, copies) for topic in missing]) if missing else None
    except KafkaError as error:
        raise Unavailable(f"the topics could not be made at {servers}: {error}") from error
    finally:
        await admin.close()
    for name, code, said in answer.topic_errors if answer else ():
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise Unavailable(f"the topic {name} could not be made: {said or for_code(code).__name__}")
    return [topic.name for topic in missing]


async def topic_names(servers: str) -> set[str]:
    """Return the names of the topics that a broker has.

    Raises:
        Unavailable: It does not answer.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        return set(await admin.list_topics())
    except KafkaError as error:
        raise Unavailable(f"the topics could not be read at {servers}: {error}") from error
    finally:
        await admin.close()


async def _copies(admin: AIOKafkaAdminClient) -> int:
    """Return how many copies the topics of the catalogue have that are there."""
    ours = {topic.name for topic in catalogue()}
    found = [topic["partitions"] for topic in await admin.describe_topics() if topic["topic"] in ours]
    return max((len(partition["replicas"]) for partitions in found for partition in partitions), default=1)


def _new(topic: Topic, replication_factor: int) -> NewTopic:
    retention = {"retention.ms": str(topic.retention_s * 1000)}
    return NewTopic(topic.name, topic.partitions, replication_factor=replication_factor, topic_configs=retention)


def main() -> int:
    """Make what is missing on a broker, name it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m millrace.runtime.topics", description=__doc__)
    parser.add_argument("servers", help="brokers to start from: host:port, comma-separated")
    parser.add_argument("--replication-factor", type=int, default=1, help="copies of each partition; 3 in a cluster")
    arguments = parser.parse_args()
    try:
        made = asyncio.run(
            create_topics(arguments.servers, catalogue(), replication_factor=arguments.replication_factor)
        )
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{name}\n" for name in made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
