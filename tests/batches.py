"""Batches as they lie on a log, made by hand: compressed by any codec, and of a size no producer takes."""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import cramjam
import zstandard
from aiokafka import AIOKafkaProducer, TopicPartition, codec
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

Headers = list[tuple[str, bytes | None]]
Row = tuple[bytes | None, bytes | None, Headers]
Compress = Callable[[bytes], bytes]

HEADER_BYTES: Final = 61
CODECS: Final[dict[str, tuple[int, Compress]]] = {
    "gzip": (1, codec.gzip_encode),
    "snappy": (2, codec.snappy_encode),
    "snappy in one": (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "lz4": (3, codec.lz4_encode),
    "zstd": (4, codec.zstd_encode),
    "zstd in frames": (
        4,
        lambda data: codec.zstd_encode(data[:1000]) + zstandard.ZstdCompressor().compress(data[1000:]),
    ),
}


def batch(rows: Iterable[Row], first_offset: int = 0, timestamp_ms: int = 1_000) -> bytes:
    """Give a batch that is not compressed; its records are 7 ms apart."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**30)
    for n, (key, value, headers) in enumerate(rows):
        assert builder.append(n, timestamp_ms + n * 7, key, value, headers) is not None
    return first_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def compressed(plain: bytes, number: int, compress: Compress) -> bytes:
    """Give a batch as it is when its records are compressed; `number` is Kafka's for the codec."""
    return sealed(plain[:HEADER_BYTES], number, compress(plain[HEADER_BYTES:]))


def sealed(header: bytes, number: int, records: bytes) -> bytes:
    """Put a batch together, with its length and its checksum."""
    whole = bytearray(header + records)
    whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
    whole[22] |= number
    whole[17:21] = calc_crc32c(bytes(whole[21:])).to_bytes(4, "big")
    return bytes(whole)


def bomb(name: str, key: bytes, size: int, after: Row, timestamp_ms: int) -> bytes:
    """Give a batch of two records, of which the first has a value of so many zeros; never has it whole."""
    number = CODECS[name][0]
    whole = batch([(key, b"", []), after], timestamp_ms=timestamp_ms)
    first = b"\x00\x00\x00" + _varint(len(key)) + key + _varint(size)  # attributes, time and offset, then key and value
    head = _varint(len(first) + size + 1) + first
    alone = batch([(key, b"", [])], timestamp_ms=timestamp_ms)
    rest = b"\x00" + whole[len(alone) :]  # the first one's count of headers, and all of the second record
    zeros = bytes(1 << 20)
    parts = [head, *[zeros] * (size >> 20), zeros[: size & 0xFFFFF], rest]
    return sealed(whole[:HEADER_BYTES], number, _streamed(name, parts))


def _streamed(name: str, parts: list[bytes]) -> bytes:
    if name == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join([*map(packer.compress, parts), packer.flush()])
    if name == "zstd":
        frame = zstandard.ZstdCompressor().compressobj()
        return b"".join([*map(frame.compress, parts), frame.flush()])
    return CODECS[name][1](b"".join(parts))


def _varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


class _Made(BatchBuilder):
    """A batch for the producer that is made already."""

    def __init__(self, data: bytes) -> None:
        super().__init__(1024, 0)
        self._buffer = bytearray(data)
        (self._relative_offset,) = struct.unpack_from(">i", data, HEADER_BYTES - 4)
        self.close()

    def _set_producer_state(self, *_: Any) -> None:
        raise AssertionError("made for a producer that is not idempotent")


async def put(producer: AIOKafkaProducer, tp: TopicPartition, data: bytes) -> int:
    """Have the broker take a batch; gives the offset of its first record."""
    metadata = await (await producer.send_batch(_Made(data), tp.topic, partition=tp.partition))
    return int(metadata.offset)
