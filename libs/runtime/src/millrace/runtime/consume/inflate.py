"""Compressed batches, read as a stream: however much they hold, little of it is in memory at a time."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cramjam

CHUNK_BYTES = 256 * 1024
MOST_INFLATED_BYTES = 512 * 1024 * 1024
MOST_AT_ONCE_BYTES = 32 * 1024 * 1024
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
FRAMED = {LZ4: ("lz4", cramjam.lz4), ZSTD: ("zstd", cramjam.zstd)}
#: What Java's Snappy writes before its blocks: a magic, and two versions.
XERIAL, XERIAL_BYTES = b"\x82SNAPPY\x00", 16
MAX_VARINT_BYTES = 10


class UnreadableError(Exception):
    """What is left of the batch cannot be read, or is too much to be read."""


class Inflating:
    """The bytes of a batch's records, decompressed as they are asked for.

    Args:
        codec: As in the batch's attributes.
        payload: What follows the batch's header.
    """

    def __init__(self, codec: int, payload: bytes | memoryview) -> None:
        self._pieces = _pieces(codec, payload)
        self._ready = b""
        self._at = 0
        self._inflated = 0

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        parts = []
        while size:
            part = self._some(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def digest(self, size: int) -> str:
        """Pass over so many bytes and return their SHA-256."""
        found = hashlib.sha256()
        while size:
            part = self._some(size)
            found.update(part)
            size -= len(part)
        return found.hexdigest()

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        while size:
            size -= len(self._some(size))

    def rest(self, most: int) -> bytes | None:
        """Return all that is left, where it is no more than so many bytes."""
        parts, size = [self._ready[self._at :]], len(self._ready) - self._at
        while size <= most:
            piece = self._next()
            if not piece:
                return b"".join(parts)
            parts.append(piece)
            size += len(piece)
        return None

    def varint(self) -> tuple[int, int]:
        """Return a zigzag number, and how many bytes it took."""
        found = 0
        for taken in range(MAX_VARINT_BYTES):
            byte = self.read(1)[0]
            found |= (byte & 0x7F) << (7 * taken)
            if not byte & 0x80:
                return (found >> 1) ^ -(found & 1), taken + 1
        raise UnreadableError("a number in it has no end")

    def _some(self, size: int) -> bytes:
        """Return at least one byte, and no more than asked."""
        if self._at == len(self._ready):
            self._ready, self._at = self._next(), 0
            if not self._ready:
                raise UnreadableError("it ends in the middle of a record")
        part = self._ready[self._at : self._at + size]
        self._at += len(part)
        return part

    def _next(self) -> bytes:
        """Return what comes next, nothing at the end."""
        found = next(self._pieces, b"")
        self._inflated += len(found)
        if self._inflated > MOST_INFLATED_BYTES:
            raise UnreadableError(f"it holds more than {MOST_INFLATED_BYTES} bytes once decompressed")
        return found


def _pieces(codec: int, payload: bytes | memoryview) -> Iterator[bytes]:
    """Yield what a payload holds, each piece within a bound and none empty."""
    if codec == NONE:
        yield from filter(None, [bytes(payload)])
    elif codec == GZIP:
        yield from _gzip(payload)
    elif codec == SNAPPY:
        yield from _snappy(bytes(payload))
    elif codec in FRAMED:
        yield from filter(None, [_at_once(*FRAMED[codec], payload)])
    else:
        raise UnreadableError(f"compressed with codec {codec}, which is not known here")


def _gzip(payload: bytes | memoryview) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=31)
    while not stream.eof:
        try:
            found = stream.decompress(payload, CHUNK_BYTES)
        except zlib.error:
            raise UnreadableError("it is damaged: gzip cannot read it") from None
        payload = stream.unconsumed_tail
        if found:
            yield found
        elif not stream.eof:
            raise UnreadableError("it ends in the middle of a record")


def _snappy(payload: bytes) -> Iterator[bytes]:
    blocks = _xerial(payload) if payload.startswith(XERIAL) else iter([payload])
    for block in blocks:
        try:
            size = cramjam.snappy.decompress_raw_len(block)
            if size > MOST_AT_ONCE_BYTES:
                raise UnreadableError(f"a block in it holds {size} bytes once decompressed")
            if size:
                yield bytes(cramjam.snappy.decompress_raw(block))
        except cramjam.DecompressionError:
            raise UnreadableError("it is damaged: snappy cannot read it") from None


def _xerial(payload: bytes) -> Iterator[bytes]:
    at = XERIAL_BYTES
    while at < len(payload):
        if at + 4 > len(payload):
            raise UnreadableError("it ends in the middle of a block")
        (size,) = struct.unpack_from(">I", payload, at)
        yield payload[at + 4 : at + 4 + size]
        at += 4 + size


def _at_once(name: str, library: Any, payload: bytes | memoryview) -> bytes:  # noqa: ANN401 - a module of cramjam's
    """Return all that a payload holds; the library reads no part of it by itself."""
    size = min(MOST_AT_ONCE_BYTES, 8 * len(payload) + CHUNK_BYTES)
    while True:
        room = bytearray(size)
        try:
            return bytes(memoryview(room)[: library.decompress_into(bytes(payload), room)])
        except cramjam.DecompressionError:
            if size == MOST_AT_ONCE_BYTES:
                told = (
                    f"it is damaged, or holds more than {size} bytes once decompressed, which {name} reads all at once"
                )
                raise UnreadableError(told) from None
            size = min(MOST_AT_ONCE_BYTES, 8 * size)
