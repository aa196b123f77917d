"""Compressed bytes, expanded a piece at a time: however much they hold, only a piece of it is ever in memory.

aiokafka expands a batch whole, and a batch of 1 MB may hold 32 GB. What one step may give is bounded here by the format
itself: gzip and zstd by what we ask for, LZ4 by its blocks (4 MB), snappy by its ratio (a copy of 64 bytes takes 3, so
1 MB gives 22).

Whatever is no well-formed stream raises `ExpansionError`. A broker looks through each batch before it takes it, so this
is a disk or a memory that lies, not a producer.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Final

import cramjam
import zstandard

PIECE_BYTES: Final = 256 * 1024

_ZSTD_WINDOW_BYTES_MAX: Final = 128 * 1024 * 1024  # what zstd's own highest level asks for
_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_LZ4_STORED: Final = 0x80000000
_SNAPPY_RATIO_MAX: Final = 22
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


class ExpansionError(Exception):
    """A compressed batch is not what its codec says."""


def pieces(codec: int, data: bytes) -> Iterator[bytes]:
    """Give what `data` holds, in order; `codec` is Kafka's number (1 gzip, 2 snappy, 3 LZ4, 4 zstd)."""
    if (expand := _EXPAND.get(codec)) is None:
        raise ExpansionError(f"codec {codec} is not known")
    try:
        yield from expand(data)
    except (zlib.error, zstandard.ZstdError, cramjam.DecompressionError, OSError, ValueError, IndexError) as error:
        raise ExpansionError(f"codec {codec}: {error}") from error


def _gzip(data: bytes) -> Iterator[bytes]:
    while data:  # one member after the other, as gzip has it
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = member.decompress(data, PIECE_BYTES)
            data = member.unconsumed_tail
            if piece:
                yield piece
            elif not data and not member.eof:
                raise ExpansionError("gzip: cut off")
        data = member.unused_data


def _zstd(data: bytes) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX).stream_reader(
        data, read_across_frames=True
    )
    while piece := reader.read(PIECE_BYTES):
        yield piece


def _lz4(data: bytes) -> Iterator[bytes]:
    """Read frames of independent blocks, the only ones that Kafka has."""
    at = 0
    while at < len(data):
        if data[at : at + 4] != _LZ4_MAGIC:
            raise ExpansionError("LZ4: no frame")
        flags, descriptor = data[at + 4], data[at + 5]
        block_bytes_max = 1 << (8 + 2 * (descriptor >> 4 & 7))
        checksum_bytes = 4 if flags & 0x10 else 0
        room = bytearray(block_bytes_max)
        at += 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
        while size := _number(data, at, 4, "little"):
            is_stored, size = size & _LZ4_STORED, size & ~_LZ4_STORED
            block = data[at + 4 : at + 4 + size]
            if len(block) != size or size > block_bytes_max + 1024:
                raise ExpansionError("LZ4: a block is cut off")
            yield block if is_stored else _lz4_block(block, room)
            at += 4 + size + checksum_bytes
        at += 4 + (4 if flags & 0x04 else 0)


def _lz4_block(block: bytes, room: bytearray) -> bytes:
    return bytes(memoryview(room)[: cramjam.lz4.decompress_block_into(block, room)])


def _snappy(data: bytes) -> Iterator[bytes]:
    """Read one raw stream, or the blocks in which Java's library writes it."""
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield from _snappy_block(data)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        size = _number(data, at, 4, "big")
        yield from _snappy_block(data[at + 4 : at + 4 + size])
        at += 4 + size


def _snappy_block(block: bytes) -> Iterator[bytes]:
    if cramjam.snappy.decompress_raw_len(block) > _SNAPPY_RATIO_MAX * len(block) + 64:
        raise ExpansionError("snappy: says that it holds more than it can")
    whole = memoryview(cramjam.snappy.decompress_raw(block))
    for at in range(0, len(whole), PIECE_BYTES):
        yield bytes(whole[at : at + PIECE_BYTES])


def _number(data: bytes, at: int, size: int, order: str) -> int:
    digits = data[at : at + size]
    if len(digits) < size:
        raise ExpansionError("cut off where a length should stand")
    return int.from_bytes(digits, "little" if order == "little" else "big")


_EXPAND: Final[dict[int, Callable[[bytes], Iterator[bytes]]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
