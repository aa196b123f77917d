"""Records in a file: a line of JSON for each, compressed (zstd), to be read by `zstd -dc FILE | jq` as well as by us.

The first line says what the file is, the last one how many records are in it: a file that was cut off is noticed. Bytes
that are UTF-8 stand as text, others as base64.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec
import zstandard

from processor.replay.records import Side, StoredRecord, Timed, event_time_ms
from processor.replay.selection import Selection

VERSION: Final = 1
CHUNK: Final = 1_000


class ArchiveError(Exception):
    """The file is no archive of ours, or not whole; the message is one line."""


class Manifest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The first line."""

    janela_archive: int = msgspec.field(name="janela-archive")
    partitions: int
    written: str
    """When, RFC 3339."""
    has_pseudonyms: bool = False


class _Bytes(msgspec.Struct):
    base64: bytes


_Text = str | _Bytes | None


class _Line(msgspec.Struct, omit_defaults=True):
    side: Side
    partition: int
    offset: int
    timestamp: int
    key: _Text
    value: _Text
    headers: list[tuple[str, _Text]] = []
    is_at_home: bool | None = None


class _End(msgspec.Struct):
    records: int


_encode, _decode_line = msgspec.json.Encoder().encode, msgspec.json.Decoder(_Line).decode
_decode_end = msgspec.json.Decoder(_End).decode


class ArchiveWriter:
    """Writes an archive; the file is there under its name when it is whole, and not before."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Take where to; what lies there is replaced in the end, and of a link what it leads to."""
        self._path, self._manifest = path.resolve(), manifest
        self._unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        self.records = 0

    def __enter__(self) -> Self:
        self._file = self._unfinished.open("wb")
        self._stream = zstandard.ZstdCompressor(level=6, write_checksum=True).stream_writer(self._file)
        self._stream.write(_encode(self._manifest) + b"\n")
        return self

    def write(self, records: Iterable[StoredRecord]) -> None:
        """Add records."""
        lines = [_encode(_line(record)) for record in records]
        self.records += len(lines)
        self._stream.write(b"".join(line + b"\n" for line in lines))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._stream.write(_encode(_End(self.records)) + b"\n")
            self._stream.close()  # type: ignore[no-untyped-call]
            if kind is None:
                self._unfinished.replace(self._path)
        finally:
            self._file.close()
            self._unfinished.unlink(missing_ok=True)


class ArchiveSource:
    """An archive as a source of records, in the order in which they were written."""

    left_out = 0

    def __init__(self, path: Path, selection: Selection) -> None:
        """Open it and read its first line.

        Raises:
            ArchiveError: It is no archive of ours.
            OSError: It can't be read.
        """
        self._path, self._selection = path, selection
        with path.open("rb") as file:
            try:
                first = next(iter(_lines(file)), b"")
                self.manifest = msgspec.json.decode(first, type=Manifest)
            except (zstandard.ZstdError, msgspec.MsgspecError):
                raise ArchiveError(f"{path}: not an archive of `janela archive`") from None
        if self.manifest.janela_archive != VERSION:
            raise ArchiveError(f"{path}: found version {self.manifest.janela_archive}, expected {VERSION}")
        self.partitions = self.manifest.partitions

    def begin_at(self, since_ms: int) -> None:
        """See `Source`."""
        self._selection = replace(self._selection, since_ms=since_ms)

    def end_at(self, until_ms: int) -> None:
        """See `Source`."""
        self._selection = replace(self._selection, until_ms=until_ms)

    async def chunks(self) -> AsyncIterator[list[Timed]]:
        """Give the records; see `Source`.

        Raises:
            ArchiveError: It is damaged, or was cut off.
        """
        chunk: list[Timed] = []
        time_ms = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(self._whole(file), 1):
                if number % CHUNK == 0:
                    await asyncio.sleep(0)  # nothing here waits, and a signal needs a turn
                record = _record(line)
                if not self._selects(record):
                    continue
                time_ms = max(time_ms, event_time_ms(record) or 0)
                chunk.append(Timed(time_ms, record))
                if len(chunk) >= CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def _selects(self, record: StoredRecord) -> bool:
        chosen = self._selection
        return chosen.holds_place(
            record.side, record.partition, record.offset, record.timestamp_ms
        ) and chosen.holds_key(record.key)

    def _whole(self, file: BinaryIO) -> Iterable[_Line]:
        """Give the lines between the first and the last, and make sure that the last is there."""
        lines = iter(_lines(file))
        count = 0
        try:
            next(lines)
            before = next(lines)
            for line in lines:
                yield _decode_line(before)
                count += 1
                before = line
            if _decode_end(before).records == count:
                return
        except (zstandard.ZstdError, msgspec.MsgspecError, StopIteration) as error:
            raise ArchiveError(f"{self._path}: damaged or cut off after {count} records") from error
        raise ArchiveError(f"{self._path}: {count} records are there, more were written")


def _lines(file: BinaryIO) -> Iterable[bytes]:
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file), 1024 * 1024)


def _line(record: StoredRecord) -> _Line:
    headers = [(name, _text(value)) for name, value in record.headers]
    place = record.side, record.partition, record.offset, record.timestamp_ms
    return _Line(*place, _text(record.key), _text(record.value), headers, record.is_at_home)


def _record(line: _Line) -> StoredRecord:
    headers = tuple((name, _bytes(value)) for name, value in line.headers)
    place = line.side, line.partition, line.offset, line.timestamp
    return StoredRecord(*place, _bytes(line.key), _bytes(line.value), headers, line.is_at_home)


def _text(data: bytes | None) -> _Text:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _Bytes(data)


def _bytes(text: _Text) -> bytes | None:
    if isinstance(text, _Bytes):
        return text.base64
    return None if text is None else text.encode()
