"""Records that wait to be gone through, more than once, in a temporary file instead of memory."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
import zstandard

BLOCK_RECORDS: Final = 2_000

R = TypeVar("R", bound=NamedTuple)


class Spool(Iterable[R], Generic[R]):
    """Records of one type in the order in which they were put in; `close` deletes them.

    The file has no name, bears the rights of a temporary one, and is compressed: JSON takes about a tenth.
    """

    def __init__(self, kind: type[R]) -> None:
        """Begin with none; the file goes where TMPDIR says."""
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - its life is the spool's
        self._encode, self._decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._compressor, self._decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
        self._blocks: list[tuple[int, int]] = []
        self._end = 0
        self._last: list[R] = []

    def append(self, record: R) -> None:
        """Put one in, after all others."""
        self._last.append(record)
        if len(self._last) == BLOCK_RECORDS:
            block = self._compressor.compress(self._encode(self._last))
            self._file.write(block)
            self._blocks.append((self._end, len(block)))
            self._end += len(block)
            self._last = []

    def __iter__(self) -> Iterator[R]:
        """Go through all that were put in so far; several may do so at once."""
        for start, size in self._blocks:
            yield from self._decode(self._decompressor.decompress(os.pread(self._file.fileno(), size, start)))
        yield from self._last

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
