"""Topics are made from the catalogue, and nowhere else."""

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from millrace.contracts.catalogue import Topic
from millrace.sdk.stack.failure import CannotStart


async def create_topics(servers: str, topics: Iterable[Topic]) -> None:
    """Make the topics that are missing on a broker of one node.

    Raises:
        CannotStart: The broker refused one.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [_new(topic) for topic in topics if topic.name not in there]
        answer = await admin.create_topics(missing) if missing else None
    except KafkaError as error:
        raise CannotStart(f"the topics could not be made at {servers}: {error}") from error
    finally:
        await admin.close()
    for name, code, said in answer.topic_errors if answer else ():
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise CannotStart(f"the topic {name} could not be made: {said or for_code(code).__name__}")


def _new(topic: Topic) -> NewTopic:
    retention = {"retention.ms": str(topic.retention_s * 1000)}
    return NewTopic(topic.name, topic.partitions, replication_factor=1, topic_configs=retention)
