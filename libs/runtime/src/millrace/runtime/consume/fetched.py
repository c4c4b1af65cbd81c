"""What a broker's answer holds, made safe to read: its size says nothing of what it is once decompressed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c, encode_varint
from millrace.runtime.consume.inflate import Inflating, UnreadableError
from millrace.runtime.subscriptions import Unread

HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH = struct.Struct(">qi")
CRC_AT, CHECKED_AT = 17, 21
CODEC_MASK, CONTROL_MASK = 0x07, 0x20
MAGIC = 2
MOST_HEADERS_BYTES = 64 * 1024

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Batch:
    """One batch of records, in the form that all brokers since 0.11 keep."""

    raw: memoryview
    base: int
    magic: int
    attributes: int
    last_delta: int
    count: int

    @classmethod
    def of(cls, raw: memoryview) -> "Batch":
        """Return what a batch's header says."""
        base, _, _, magic, _, attributes, last_delta, *_, count = HEADER.unpack_from(raw)
        return cls(raw, base, magic, attributes, last_delta, count)

    @property
    def codec(self) -> int:
        """Return how it is compressed; 0 where it is not."""
        return self.attributes & CODEC_MASK if self.magic == MAGIC else 0

    def plain(self) -> bool:
        """Return whether it can be read as it is."""
        if self.magic != MAGIC or self.attributes & CONTROL_MASK:
            return True
        return not self.codec and readable(self.raw)

    def sound(self) -> bool:
        """Return whether it is as it was written."""
        return bool(struct.unpack_from(">I", self.raw, CRC_AT)[0] == calc_crc32c(self.raw[CHECKED_AT:]))

    def holding(self, records: bytes, count: int, last_delta: int) -> bytes:
        """Return the same batch with other records, not compressed."""
        base, _, epoch, magic, _, attributes, _, first, latest, producer, producer_epoch, sequence, _ = (
            HEADER.unpack_from(self.raw)
        )
        head = (epoch, magic, 0, attributes & ~CODEC_MASK, last_delta, first, latest, producer, producer_epoch)
        made = bytearray(HEADER.pack(base, HEADER.size - LENGTH.size + len(records), *head, sequence, count))
        made += records
        struct.pack_into(">I", made, CRC_AT, calc_crc32c(made[CHECKED_AT:]))
        return bytes(made)


class Fetched:
    """Makes the records of one answer safe to read, and notes what is not given on.

    Args:
        most_bytes: Most bytes of decompressed records to give on; the rest is left to be fetched again.
        most_record_bytes: Of a larger record only its place, key, headers and digest are given on.
    """

    def __init__(self, most_bytes: int, most_record_bytes: int) -> None:
        self.unread: dict[Place, Unread] = {}
        self._left = most_bytes
        self._most_record_bytes = most_record_bytes

    def safe(self, topic: str, partition: int, offset: int, data: bytes) -> bytes:
        """Return the records of a partition from an offset on, as far as the bound allows: at least one."""
        if self._left <= 0:
            return b""
        made: list[memoryview | bytes] = []
        anew = False
        for batch in batches(data):
            # What is damaged on the way is aiokafka's to refuse.
            if batch.plain() or not batch.sound():
                made.append(batch.raw)
                continue
            one, cut = self._rebuilt(topic, partition, offset, batch)
            made.append(one)
            anew = True
            self._left -= len(one)
            if cut or self._left <= 0:
                break
        return b"".join(made) if anew else data

    def _rebuilt(self, topic: str, partition: int, offset: int, batch: Batch) -> tuple[bytes, bool]:
        """Return a batch that can be read at once, and whether records of it were left out."""
        if small := self._inflated(batch):
            return small, False
        records, count, last_delta, cut = bytearray(), 0, batch.last_delta, False
        for delta, body, unread in self._records(batch, offset):
            if count and len(records) + len(body) > self._left:
                cut = True
                break
            encode_varint(len(body), records.append)
            records += body
            count, last_delta = count + 1, delta
            if unread:
                self.unread[topic, partition, batch.base + delta] = unread
        return batch.holding(bytes(records), count, last_delta if cut else batch.last_delta), cut

    def _inflated(self, batch: Batch) -> bytes:
        """Return a batch decompressed; nothing where it is large or anything is wrong with it."""
        try:
            stream = Inflating(batch.codec, batch.raw[HEADER.size :])
            records = stream.rest(min(self._left, self._most_record_bytes))
        except UnreadableError:
            return b""
        if records is None:
            return b""
        made = batch.holding(records, batch.count, batch.last_delta)
        return made if readable(made) else b""

    def _records(self, batch: Batch, offset: int) -> Iterator[tuple[int, bytes, Unread | None]]:
        """Yield the records of a batch from an offset on: place in it, what to give on, and why that is not all."""
        passed = -1
        try:
            stream = Inflating(batch.codec, batch.raw[HEADER.size :])
            for _ in range(batch.count):
                length, _ = stream.varint()
                head = Head.read(stream)
                if batch.base + head.delta < offset:
                    stream.skip(length - head.size)
                elif length > self._most_record_bytes:
                    yield head.delta, *large(stream, head, length)
                else:
                    yield head.delta, *named(head, stream.read(length - head.size))
                passed = head.delta
        except (UnreadableError, ValueError, IndexError) as error:
            if passed < batch.last_delta:
                first = max(offset, batch.base + passed + 1)
                said = str(error) if isinstance(error, UnreadableError) else "it is damaged"
                told = f"the batch cannot be read from offset {first} to {batch.base + batch.last_delta}: {said}"
                yield batch.last_delta, Head(0, batch.last_delta, 0).body(None, b"\x01", b"\x00"), Unread(told)


@dataclass(frozen=True)
class Head:
    """How a record begins.

    Attributes:
        later_ms: Its time, after the batch's first.
        delta: Its place in the batch.
        size: How many bytes this took.
    """

    later_ms: int
    delta: int
    size: int

    @classmethod
    def read(cls, stream: Inflating) -> "Head":
        """Read it off."""
        stream.skip(1)
        (later_ms, one), (delta, two) = stream.varint(), stream.varint()
        return cls(later_ms, delta, 1 + one + two)

    def body(self, key: bytes | None, value: bytes, headers: bytes) -> bytes:
        """Return a whole record, of a key and of a value and headers as they are written."""
        made = bytearray(1)
        encode_varint(self.later_ms, made.append)
        encode_varint(self.delta, made.append)
        encode_varint(-1 if key is None else len(key), made.append)
        return bytes(made) + (key or b"") + value + headers


def batches(data: bytes) -> Iterator[Batch]:
    """Yield the whole batches of an answer; the last one may have been cut off."""
    at, whole = 0, memoryview(data)
    while len(data) - at >= HEADER.size:
        _, length = LENGTH.unpack_from(data, at)
        end = at + LENGTH.size + length
        if end > len(data) or length < HEADER.size - LENGTH.size:
            return
        yield Batch.of(whole[at:end])
        at = end


def readable(raw: memoryview | bytes) -> bool:
    """Return whether all records of a batch that is not compressed can be read."""
    try:
        for _ in DefaultRecordBatch(raw):
            pass
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        return False
    return True


def large(stream: Inflating, head: Head, length: int) -> tuple[bytes, Unread | None]:
    """Return a large record without its value, and why; its value is passed over, for its digest."""
    size, taken = stream.varint()
    key = None
    if size > MOST_HEADERS_BYTES:
        raise UnreadableError(f"a record in it has a key of {size} bytes")
    if size >= 0:
        key = stream.read(size)
    left = length - head.size - taken - max(size, 0)
    size, taken = stream.varint()
    digest = stream.digest(max(size, 0))
    left -= taken + max(size, 0)
    why = f"the record has {length} bytes once decompressed: its value is not kept"
    if left > MOST_HEADERS_BYTES:
        stream.skip(left)
        headers = b"\x00"
    else:
        headers = _headers(stream.read(left))[0]
    return head.body(key, b"\x01", headers), Unread(why, max(size, 0), digest)


def named(head: Head, rest: bytes) -> tuple[bytes, Unread | None]:
    """Return a record whose headers have names that can be read, and why it is not as it was."""
    stream = Inflating(0, rest)
    size, at = stream.varint()
    key = stream.read(size) if size >= 0 else None
    at += max(size, 0)
    size, taken = stream.varint()
    stream.skip(max(size, 0))
    end = at + taken + max(size, 0)
    headers, odd = _headers(rest[end:])
    why = Unread("a header's name is not UTF-8") if odd else None
    return head.body(key, rest[at:end], headers), why


def _headers(written: bytes) -> tuple[bytes, bool]:
    """Return headers as they are written, names that are not UTF-8 as escapes, and whether there were any."""
    stream, made, odd = Inflating(0, written), bytearray(), False
    count, _ = stream.varint()
    encode_varint(count, made.append)
    for _ in range(count):
        size, _ = stream.varint()
        name = stream.read(size)
        shown = name.decode(errors="backslashreplace").encode()
        odd = odd or shown != name
        encode_varint(len(shown), made.append)
        made += shown
        size, _ = stream.varint()
        encode_varint(size, made.append)
        made += stream.read(max(size, 0))
    return bytes(made), odd
