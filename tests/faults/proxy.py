"""A TCP proxy between two processes that can be slow, narrow, rude, or silent without closing."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_CHUNK_BYTES = 16 * 1024
_BUFFERED = 64
_RESET = struct.pack("ii", 1, 0)

Spent = Callable[[int], bool]
Pieces = asyncio.Queue[tuple[float, bytes]]


class Proxy:
    """Passes on what it is sent, as long as nothing else is said.

    Args:
        target: Host and port that it stands before.

    Attributes:
        latency_s: How much later everything arrives, each way, seconds.
        bytes_per_s: How much passes, each way and connection; 0 for no bound.
        answer_bytes: After so many bytes of answers a connection is reset, whatever it is saying; 0 for never.
        accepted: How many connections there have been.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.latency_s = 0.0
        self.bytes_per_s = 0
        self.answer_bytes = 0
        self.accepted = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        self.resume()
        self.reset()
        if self._serving:
            await asyncio.wait(self._serving)

    @property
    def address(self) -> str:
        """Where it listens: `host:port`."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def silence(self) -> None:
        """Pass on nothing more and close nothing: both sides are half open."""
        self._passing.clear()

    def resume(self) -> None:
        """Be quick, wide, polite and talkative again."""
        self.latency_s = self.bytes_per_s = self.answer_bytes = 0
        self._passing.set()

    def reset(self) -> None:
        """Reset every connection that is open."""
        for writer in list(self._open):
            _reset(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._open.add(writer)
        try:
            await self._passing.wait()
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            self._open.discard(writer)
            _reset(writer)
            return
        self._open.add(far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                self._pass(both, reader, far_writer, lambda _: False)
                self._pass(both, far_reader, writer, self._counted())
        except* OSError:
            pass
        finally:
            for end in (writer, far_writer):
                self._open.discard(end)
                _reset(end)

    def _pass(
        self, group: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spent: Spent
    ) -> None:
        pieces: Pieces = asyncio.Queue(_BUFFERED)
        group.create_task(self._arrive(reader, pieces))
        group.create_task(self._leave(pieces, writer, spent))

    async def _arrive(self, reader: asyncio.StreamReader, pieces: Pieces) -> None:
        piece = b"more"
        while piece:
            piece = await reader.read(_CHUNK_BYTES)
            await pieces.put((asyncio.get_running_loop().time() + self.latency_s, piece))

    async def _leave(self, pieces: Pieces, writer: asyncio.StreamWriter, spent: Spent) -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            if self.bytes_per_s:
                await asyncio.sleep(len(piece) / self.bytes_per_s)
            await self._passing.wait()
            if not piece or spent(len(piece)):
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()

    def _counted(self) -> Spent:
        """Return what says of each piece of an answer whether it is one too many."""
        answered = 0

        def spent(size: int) -> bool:
            nonlocal answered
            answered += size
            return 0 < self.answer_bytes < answered

        return spent


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side is told that it was no orderly end."""
    with suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
