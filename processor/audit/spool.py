"""Records that wait to be gone through, more than once, in a temporary file instead of memory."""

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
import zstandard

from processor.settings import SettingsError

BLOCK_BYTES: Final = 1024 * 1024
"""How much is compressed at a time, and expanded, by default; a block ends with the record that fills it."""

_ARRAY: Final = b"\xdd"
"""How an array begins in MessagePack; its length follows, in four bytes."""

R = TypeVar("R", bound=NamedTuple)


class Spool(Iterable[R], Generic[R]):
    """Records of one type in the order in which they were put in; `close` deletes them.

    The file has no name, bears the rights of a temporary one, and is compressed: JSON takes about a tenth. Where it
    can't be written, SettingsError says so of TMPDIR.
    """

    def __init__(self, kind: type[R], block_bytes: int | None = None) -> None:
        """Begin with none; the file goes where TMPDIR says."""
        self._block_bytes = block_bytes or BLOCK_BYTES
        with _told_of_tmpdir():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - its life is the spool's
        self._encoder, self._decode = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._compressor, self._decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
        self._blocks: list[tuple[int, int]] = []
        self._end = 0
        self._last, self._count = bytearray(), 0

    def append(self, record: R) -> None:
        """Put one in, after all others."""
        self._encoder.encode_into(record, self._last, -1)
        self._count += 1
        if len(self._last) >= self._block_bytes:
            block = self._compressor.compress(self._last_block())
            self._write(block)
            self._blocks.append((self._end, len(block)))
            self._end += len(block)
            self._last, self._count = bytearray(), 0

    def __iter__(self) -> Iterator[R]:
        """Go through all that were put in so far; several may do so at once."""
        for start, size in self._blocks:
            yield from self._decode(self._decompressor.decompress(os.pread(self._file.fileno(), size, start)))
        yield from self._decode(self._last_block())

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _last_block(self) -> bytes:
        return _ARRAY + self._count.to_bytes(4, "big") + self._last

    def _write(self, block: bytes) -> None:
        left = memoryview(block)
        with _told_of_tmpdir():
            while left:
                left = left[self._file.write(left) :]


@contextmanager
def _told_of_tmpdir() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            told = "open files (ulimit -n): found as many as are allowed, expected room for some sixty more"
            raise SettingsError([told]) from error
        reason = "no space left" if error.errno == errno.ENOSPC else str(error)
        where = os.environ.get("TMPDIR") or "none"
        told = f"TMPDIR: found {where} ({reason}), expected a folder with room for a tenth of a partition's topics"
        raise SettingsError([told]) from error
