"""Batches of records as no honest producer writes them, and how they get into a topic."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint
from millrace.runtime.consume.fetched import CHECKED_AT, CRC_AT, HEADER, LENGTH
from millrace.runtime.consume.inflate import GZIP

MIB = 1024 * 1024
PRODUCE_MS = 20_000

Made = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""A record's key, value and headers."""


def batch(records: Sequence[Made], *, base: int = 0, codec: int = 0) -> bytes:
    """Return a batch as a broker gives it, from an offset on."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=64 * MIB,
    )
    for delta, (key, value, headers) in enumerate(records):
        builder.append(delta, timestamp=1000 + delta, key=key, value=value, headers=headers)
    return rebased(bytes(builder.build()), base)


def rebased(raw: bytes, base: int) -> bytes:
    """Return a batch that begins at another offset."""
    return struct.pack(">q", base) + raw[8:]


def with_codec(raw: bytes, codec: int, payload: bytes) -> bytes:
    """Return a batch that says it is compressed so, with a payload of one's own."""
    head = list(HEADER.unpack_from(raw))
    head[1], head[5] = HEADER.size - LENGTH.size + len(payload), codec
    made = bytearray(HEADER.pack(*head) + payload)
    struct.pack_into(">I", made, CRC_AT, calc_crc32c(made[CHECKED_AT:]))
    return bytes(made)


def odd_name(raw: bytes) -> bytes:
    """Return a batch whose headers named `odd` have a name that is not UTF-8."""
    return with_codec(raw, 0, raw[HEADER.size :].replace(b"\x06odd", b"\x06\xff\xfed"))


def bomb(size: int, *, after: int = 0, key: bytes = b"bomb") -> bytes:
    """Return a gzip batch of some small records and one large one, made without having it in memory."""
    small = batch([(b"k", b"small", [])] * after)[HEADER.size :] if after else b""
    body = b"\x00" + b"\x00" + _zigzag(after) + _zigzag(len(key)) + key + _zigzag(size)
    tail = _zigzag(1) + _zigzag(4) + b"name" + _zigzag(5) + b"value"
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(small + _zigzag(len(body) + size + len(tail)) + body)
    for _ in range(size // MIB):
        packed += packer.compress(bytes(MIB))
    packed += packer.compress(tail) + packer.flush()
    return with_codec(batch([(b"k", b"small", [])] * (after + 1)), GZIP, packed)


async def produce(servers: str, topic: str, partition: int, raw: bytes) -> int:
    """Have a broker append a batch as it is; return the offset it begins at.

    Raises:
        KafkaError: The broker refused it.
    """
    client = AIOKafkaClient(bootstrap_servers=servers)
    await client.bootstrap()
    try:
        client.add_topic(topic)
        await client.force_metadata_update()
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        asked: Any = ProduceRequest(None, -1, PRODUCE_MS, [(topic, [(partition, raw)])])
        answer = await client.send(leader, asked)
        ((_, ((_, error, offset, *_),)),) = answer.topics
        if error:
            raise for_code(error)
        return int(offset)
    finally:
        await client.close()


def _zigzag(number: int) -> bytes:
    made = bytearray()
    encode_varint(number, made.append)
    return bytes(made)
