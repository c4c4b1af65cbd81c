"""What a broker's answer holds is made safe to read: bombs, odd names, damage, and bounds."""

import gzip
import hashlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st
from millrace.runtime.consume.fetched import Fetched
from millrace.runtime.consume.inflate import GZIP, LZ4, NONE, SNAPPY, XERIAL, ZSTD
from millrace.runtime.testing.batches import MIB, batch, bomb, odd_name, rebased, with_codec


def read(data: bytes) -> Iterator[tuple[int, bytes | None, bytes | None, list[Any]]]:
    """Read an answer as aiokafka does."""
    at = 0
    while at < len(data):
        end = at + 12 + struct.unpack_from(">i", data, at + 8)[0]
        one = DefaultRecordBatch(data[at:end])
        assert one.validate_crc()
        for record in one:
            yield record.offset, record.key, record.value, list(record.headers)
        at = end


def safe(data: bytes, *, offset: int = 0, most: int = 32 * MIB) -> tuple[list[Any], Fetched]:
    fetched = Fetched(most, most // 4)
    return list(read(fetched.safe("t", 0, offset, data))), fetched


RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=9),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3),
    ),
    min_size=1,
    max_size=20,
)


@given(
    records=RECORDS,
    base=st.integers(0, 2**40),
    codec=st.sampled_from([NONE, GZIP, SNAPPY, LZ4, ZSTD]),
    after=st.integers(0, 30),
)
def test_what_can_be_read_is_given_on_as_it_is(records: list[Any], base: int, codec: int, after: int) -> None:
    found, fetched = safe(batch(records, base=base, codec=codec), offset=base + after)

    expected = [(base + n, *record) for n, record in enumerate(records)]
    assert [one for one in found if one[0] >= base + after] == expected[after:]
    assert fetched.unread == {}


def test_snappy_without_javas_blocks_is_read_too() -> None:
    plain = batch([(b"k", b"v" * 1000, [])])
    packed = with_codec(plain, SNAPPY, bytes(cramjam.snappy.compress_raw(plain[61:])))

    assert safe(packed)[0] == [(0, b"k", b"v" * 1000, [])]


@given(records=RECORDS, most=st.integers(40, 4000))
def test_an_answer_larger_than_its_bound_is_read_in_several_and_loses_nothing(records: list[Any], most: int) -> None:
    data, offset, found = batch(records, codec=GZIP), 0, []
    answers = 0
    while offset < len(records):
        fetched = Fetched(most, 100_000)
        part = [one for one in read(fetched.safe("t", 0, offset, data)) if one[0] >= offset]
        found += part
        offset = part[-1][0] + 1
        answers += 1

    assert [one[1:] for one in found] == records
    assert answers <= len(records)


def test_of_a_bomb_the_place_key_headers_size_and_digest_are_given_on() -> None:
    found, fetched = safe(bomb(400 * MIB, after=2))

    assert found == [
        (0, b"k", b"small", []),
        (1, b"k", b"small", []),
        (2, b"bomb", None, [("name", b"value")]),
    ]
    (unread,) = fetched.unread.values()
    digest = hashlib.sha256()
    for _ in range(400):
        digest.update(bytes(MIB))
    assert (unread.size_bytes, unread.sha256) == (400 * MIB, digest.hexdigest())
    assert "its value is not kept" in unread.reason


def test_what_is_more_than_half_a_gigabyte_is_given_up_without_a_digest_and_what_follows_is_read() -> None:
    data = bomb(600 * MIB) + batch([(b"k", b"next", [])], base=1)

    found, fetched = safe(data)

    assert found == [(0, None, None, []), (1, b"k", b"next", [])]
    assert [(one.sha256, one.size_bytes) for one in fetched.unread.values()] == [("", 0)]
    assert "holds more than" in fetched.unread["t", 0, 0].reason


def test_a_bomb_is_passed_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(bomb(400 * MIB))
    code = """
import resource, sys
from millrace.runtime.consume.fetched import Fetched
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Fetched(2**25, 2**23).safe("t", 0, 0, data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    told = subprocess.run([sys.executable, "-c", code, tmp_path / "bomb"], check=True, capture_output=True, text=True)

    assert int(told.stdout) < 40, "MiB more than before"


def test_a_name_that_is_not_utf8_is_shown_as_escapes_and_told() -> None:
    good = (b"k", b"v", [("fine", b"1")])
    data = odd_name(batch([good, (b"k", b"w", [("odd", b"2"), ("null", None)]), good]))

    found, fetched = safe(data)

    assert found == [(0, *good), (1, b"k", b"w", [("\\xff\\xfed", b"2"), ("null", None)]), (2, *good)]
    assert {place: one.reason for place, one in fetched.unread.items()} == {("t", 0, 1): "a header's name is not UTF-8"}


@pytest.mark.parametrize(
    ("codec", "payload", "reason"),
    [
        (ZSTD, b"\x28\xb5\x2f\xfd", "damaged, or holds more than 33554432 bytes once decompressed"),
        (ZSTD, bytes(cramjam.zstd.compress(bytes(400 * MIB))), "which zstd reads all at once"),
        (LZ4, b"no frame", "damaged"),
        (LZ4, bytes(cramjam.lz4.compress(b"\x02")), "ends in the middle"),
        (SNAPPY, b"no block", "damaged: snappy cannot read it"),
        (SNAPPY, b"\xff\xff\xff\xff\x0f", "a block in it holds 4294967295 bytes"),
        (SNAPPY, XERIAL + bytes(8) + b"\x00\x00", "ends in the middle of a block"),
        (SNAPPY, XERIAL + bytes(8) + b"\xff\xff\xff\xff\x00", "ends in the middle"),
        (7, b"", "codec 7, which is not known here"),
        (GZIP, b"no gzip", "damaged"),
        (GZIP, gzip.compress(b"\x02", mtime=0), "ends in the middle"),
        (GZIP, gzip.compress(b"\xff" * 20, mtime=0), "no end"),
        (GZIP, gzip.compress(b"", mtime=0), "ends in the middle"),
    ],
)
def test_a_batch_that_cannot_be_read_is_one_record_that_says_so(codec: int, payload: bytes, reason: str) -> None:
    raw = with_codec(batch([(b"k", b"v", [])] * 3, base=7), codec, payload)

    found, fetched = safe(rebased(raw, 7) + batch([(b"k", b"next", [])], base=10), offset=7)

    assert found == [(9, None, None, []), (10, b"k", b"next", [])]
    assert "from offset 7 to 9" in fetched.unread["t", 0, 9].reason
    assert reason in fetched.unread["t", 0, 9].reason


def test_an_answer_that_was_cut_off_or_damaged_on_the_way_is_left_as_it_is() -> None:
    whole = batch([(b"k", b"v" * 100, [])], codec=GZIP)
    damaged = bytearray(whole)
    damaged[-1] ^= 1

    for data in (whole[:-1], bytes(damaged), b""):
        assert Fetched(MIB, MIB).safe("t", 0, 0, data) == data
