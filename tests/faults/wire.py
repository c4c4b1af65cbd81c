"""HTTP/2 as bytes: frames that are whole, cut short, or nonsense."""

import random
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, body: bytes, *, claimed: int | None = None) -> bytes:
    """Return a frame; `claimed` is the length that it says it has, where that is a lie."""
    size = len(body) if claimed is None else claimed
    return struct.pack("!IBBI", size, kind, flags, stream)[1:] + body


def hello() -> bytes:
    """Return what a client says first."""
    return PREFACE + frame(SETTINGS, 0, 0, b"")


def call(stream: int, path: str) -> bytes:
    """Return the headers of a gRPC call, and no message yet."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
    headers["content-type"] = "application/grpc"
    return frame(HEADERS, END_HEADERS, stream, b"".join(_plain(*pair) for pair in headers.items()))


def rapid_reset(path: str, calls: int) -> bytes:
    """Return a client that takes back each of its calls at once."""
    streams = range(1, 2 * calls, 2)
    taken_back = struct.pack("!I", CANCEL)
    return hello() + b"".join(call(stream, path) + frame(RESET, 0, stream, taken_back) for stream in streams)


def damaged(path: str, dice: random.Random) -> list[bytes]:
    """Return what no client of good will says."""
    whole = hello() + call(1, path) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\2hi")
    flipped = bytearray(whole)
    for _ in range(8):
        flipped[dice.randrange(len(PREFACE), len(whole))] ^= 1 << dice.randrange(8)
    return [
        dice.randbytes(dice.randrange(1, 2000)),
        PREFACE[: dice.randrange(len(PREFACE))],
        hello() + dice.randbytes(dice.randrange(1, 2000)),
        whole[: dice.randrange(len(PREFACE), len(whole))],
        bytes(flipped),
        hello() + frame(HEADERS, END_HEADERS, 1, b"\x80", claimed=0xFFFFFF),
        hello() + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 500,
        hello() + frame(DATA, 0, 0, b"x" * 100),
        hello() + frame(PING, 0, 0, bytes(8)) * 500,
        hello() + call(1, path) + frame(DATA, END_STREAM, 1, b"\1\xff\xff\xff\xff"),
    ]


def _plain(name: str, value: str) -> bytes:
    """Return a header as HPACK has it that spares nothing: literal, not indexed, not compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
