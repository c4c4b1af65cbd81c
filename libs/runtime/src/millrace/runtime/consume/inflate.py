"""Compressed batches, read as a stream: however much they hold, little of it is in memory at a time."""

import hashlib
import zlib

CHUNK_BYTES = 256 * 1024
MOST_INFLATED_BYTES = 512 * 1024 * 1024
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
GZIP = 1
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
        if codec not in (0, GZIP):
            name = CODECS[codec] if codec < len(CODECS) else f"codec {codec}"
            raise UnreadableError(f"compressed with {name}, which is not read here")
        self._gzip = zlib.decompressobj(wbits=31) if codec == GZIP else None
        self._input: bytes | memoryview = payload
        self._ready = b"" if self._gzip else bytes(payload)
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
        while self._gzip and not self._gzip.eof and size <= most:
            parts.append(self._inflate())
            size += len(parts[-1])
        return b"".join(parts) if size <= most else None

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
            self._ready, self._at = self._inflate(), 0
        part = self._ready[self._at : self._at + size]
        self._at += len(part)
        return part

    def _inflate(self) -> bytes:
        if self._gzip is None:
            raise UnreadableError("it ends in the middle of a record")
        try:
            found = self._gzip.decompress(self._input, CHUNK_BYTES)
        except zlib.error:
            raise UnreadableError("it is damaged: gzip cannot read it") from None
        self._input = self._gzip.unconsumed_tail
        self._inflated += len(found)
        if not found:
            raise UnreadableError("it ends in the middle of a record")
        if self._inflated > MOST_INFLATED_BYTES:
            raise UnreadableError(f"it holds more than {MOST_INFLATED_BYTES} bytes once decompressed")
        return found
