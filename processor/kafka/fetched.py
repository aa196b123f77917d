"""Fetched bytes as batches of records, of which no compressed one is ever expanded whole in memory.

`FetchedRecords` stands where aiokafka has its `MemoryRecords`, for all consumers (`processor.kafka.patience`). A batch
is read by aiokafka, or by us where a header's name is not UTF-8: aiokafka takes none such. A compressed one waits,
once `is_patient` is set, until somebody calls `expand`, which is for another thread than the loop's: a batch of up to
`PLAIN_BYTES_MAX` is then read by aiokafka too, and a larger one comes in parts, each bounded in records and in bytes.
What is too large in it to be passed on is counted and digested as it goes by (`Unread`).
"""

import hashlib
import struct
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, Final, NoReturn

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from msgspec import Struct

from processor.kafka.expansion import ExpansionError, pieces
from processor.kafka.unread import Unread, UnreadHeaders

PLAIN_BYTES_MAX: Final = 2 * 1024 * 1024
"""Expanded size up to which a batch is read in one go: twice what a broker takes of one that is not compressed."""
KEPT_BYTES_MAX: Final = 1024 * 1024
"""Largest key, value or headers that are kept of a large batch: no less than `record_bytes_max` may be."""
SMALL_BYTES: Final = 512 * 1024
"""Expanded size at which batches that are small make a turn of `expand`: a change of threads costs as much as 40
records, and batches of a hundred are common."""
PART_RECORDS_MAX: Final = 1000
PART_BYTES_MAX: Final = 2 * 1024 * 1024
EXPAND_S: Final = 0.1
"""How long one call of `expand` goes on, so that partitions take turns."""

_HEADER_BYTES: Final = 61
_LENGTH_AT, _LENGTH_ENDS, _MAGIC_AT, _ATTRIBUTES_AT, _LAST_AT = 8, 12, 16, 21, 23
_TIMES: Final = struct.Struct(">qq")
_TIMES_AT, _COUNT_AT = 27, 57
_CODEC, _LOG_APPEND_TIME = 0x07, 0x08
_RECORD_COST, _HEADER_COST = 200, 80  # what the objects take beside the bytes
_MAGIC: Final = 2


class Record(Struct):
    """A record with the fields of aiokafka's, of which something may have been too large to be kept."""

    offset: int
    timestamp: int
    key: bytes | Unread | None
    value: bytes | Unread | None
    headers: list[tuple[str, bytes | None]] | UnreadHeaders
    cost: int
    """Bytes that it takes, more or less."""
    timestamp_type: int
    """1 where the broker set the timestamp, else 0."""
    checksum: ClassVar[None] = None


_value_of, _headers_of = attrgetter("value"), attrgetter("headers")


def cost_of(records: Sequence[Any]) -> int:
    """Give the bytes that records take, more or less: ours, or aiokafka's. Every record passes, so no Python loop."""
    if Record in set(map(type, records)):
        return sum(record.cost if type(record) is Record else cost_of([record]) for record in records)
    headers = sum(map(len, filter(None, map(_headers_of, records))))
    return sum(map(len, filter(None, map(_value_of, records)))) + _HEADER_COST * headers


class FetchedRecords:
    """What was fetched of one partition. Compressed batches wait to be expanded once `is_patient` is set."""

    def __init__(self, data: bytes) -> None:
        """Take the answer's bytes, of which the last batch may be cut off."""
        self.is_patient = False
        self._data, self._at = data, 0
        self._damage = _overlap(data)
        self._given = MemoryRecords(data)
        self._ready: deque[_Batch] = deque()
        self._large: _Large | None = None

    def size_in_bytes(self) -> int:
        """Give the size of what was fetched."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is a batch that can be read now."""
        if not self.is_patient:
            return bool(self._given.has_next())
        return bool(self._ready) or (self._large is None and self._given.has_next() and not self._codec())

    def next_batch(self) -> Any:
        """Give the next batch, or the next part of a large one."""
        if self._ready:
            return self._ready.popleft()
        given, data = self._next()
        return _Batch(given, data) if data[_MAGIC_AT] >= _MAGIC else given

    @property
    def waits(self) -> bool:
        """Whether nothing can be read before `expand` has been called (again)."""
        return not self._ready and (self._large is not None or self._is_compressed())

    def expand(self, position: int) -> None:
        """Go on with the compressed batches that come next, from the record at this offset on, for `EXPAND_S` at most.

        Afterwards batches or a part of one are ready, or `waits` still holds. Bytes that are no batch raise aiokafka's
        CorruptRecordException: brokers look into what they take, so no producer can bring that about.
        """
        until_s = time.monotonic() + EXPAND_S
        try:
            if self._large is None:
                self._large = self._expand_small(until_s)
            if self._large is not None and not self._ready:
                if (part := self._large.read(position, until_s)) is not None:
                    self._ready.append(part)
                if self._large.is_read:
                    self._large = None
        except ExpansionError as error:
            raise CorruptRecordException(str(error)) from error

    def _expand_small(self, until_s: float) -> "_Large | None":
        """Make whole batches ready, one at least, until there are enough; gives the one that is too large for that."""
        room = SMALL_BYTES
        while True:
            given, data = self._next()
            if not given.validate_crc():
                _corrupt(f"the batch at {given.base_offset} is not what its checksum says")
            unread = pieces(given.compression_type, bytes(data[_HEADER_BYTES:]))
            first = list(_up_to(unread, PLAIN_BYTES_MAX))
            size = sum(map(len, first))
            if size > PLAIN_BYTES_MAX:
                return _Large(given, _records(chain(first, unread), data))
            self._ready.append(_Batch(*_uncompressed(data, first), is_sound=True))
            room -= size
            if room <= 0 or not self._is_compressed() or time.monotonic() >= until_s:
                return None

    def _is_compressed(self) -> bool:
        return bool(self._given.has_next()) and self._codec() != 0

    def _codec(self) -> int:
        """Give the codec of the batch that comes next; 0 where it is not compressed, or older than Kafka 0.11."""
        magic, attributes = self._data[self._at + _MAGIC_AT], self._data[self._at + _ATTRIBUTES_AT + 1]
        return attributes & _CODEC if magic >= _MAGIC else 0

    def _next(self) -> tuple[Any, memoryview]:
        if self._damage:
            _corrupt(self._damage)
        at = self._at
        size = _LENGTH_ENDS + int.from_bytes(self._data[at + _LENGTH_AT : at + _LENGTH_ENDS], "big")
        self._at = at + size
        return self._given.next_batch(), memoryview(self._data)[at : at + size]


def _overlap(data: bytes) -> str:
    """Say where a batch begins before the one before it has ended: no checksum is of where a batch begins."""
    at, passed = 0, 0
    while at + _HEADER_BYTES <= len(data):
        if data[at + _MAGIC_AT] >= _MAGIC:
            begin = int.from_bytes(data[at : at + _LENGTH_AT], "big")
            if begin < passed:
                return f"a batch up to {passed - 1} is followed by one that begins at {begin}"
            passed = begin + int.from_bytes(data[at + _LAST_AT : at + _LAST_AT + 4], "big") + 1
        at += _LENGTH_ENDS + int.from_bytes(data[at + _LENGTH_AT : at + _LENGTH_ENDS], "big")
    return ""


class _Batch:
    """A batch as aiokafka reads it; what its fetcher asks of one is here."""

    __slots__ = ("_data", "_given", "_is_sound", "base_offset", "is_control_batch", "is_transactional", "next_offset")

    def __init__(self, given: Any, data: memoryview, *, is_sound: bool = False) -> None:
        self._given, self._data, self._is_sound = given, data, is_sound
        self.base_offset, self.next_offset = given.base_offset, given.next_offset
        self.is_control_batch, self.is_transactional = given.is_control_batch, given.is_transactional

    @property
    def producer_id(self) -> int:
        return int(self._given.producer_id)

    def validate_crc(self) -> bool:
        return self._is_sound or bool(self._given.validate_crc())

    def __next__(self) -> Any:
        return next(self._given)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._given))  # at once: a generator between would cost each record as much as a decoding
        except UnicodeDecodeError:  # a header's name: a broker takes any bytes
            codec, body = self._data[_ATTRIBUTES_AT + 1] & _CODEC, self._data[_HEADER_BYTES:]
            chunks = pieces(codec, bytes(body)) if codec else iter([body])
            return (record for record in _records(chunks, self._data) if record)


class _Part(_Batch):
    """Some records of a batch."""

    __slots__ = ("_records",)

    def __init__(self, given: Any, records: list[Record], next_offset: int) -> None:
        super().__init__(given, memoryview(b""), is_sound=True)
        self._records, self.next_offset = records, next_offset

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)


class _Large:
    """A batch that is too large to be expanded whole, on its way."""

    def __init__(self, given: Any, records: Iterator[Record | None]) -> None:
        self._given, self._unread = given, records
        self.is_read = False

    def read(self, position: int, until_s: float) -> _Part | None:
        """Give the records that come next, from an offset on; None where the time did not suffice for one."""
        found: list[Record] = []
        cost = 0
        for record in self._unread:
            if record is not None and record.offset >= position:
                found.append(record)
                cost += record.cost
                if len(found) >= PART_RECORDS_MAX or cost >= PART_BYTES_MAX:
                    return _Part(self._given, found, record.offset + 1)
            if time.monotonic() >= until_s:
                return _Part(self._given, found, found[-1].offset + 1) if found else None
        self.is_read = True
        return _Part(self._given, found, self._given.next_offset)


def _up_to(unread: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Take pieces until there are more bytes than that."""
    for piece in unread:
        yield piece
        size -= len(piece)
        if size < 0:
            return


def _uncompressed(data: memoryview, records: list[bytes]) -> tuple[Any, memoryview]:
    """Give a batch as it would be without compression; its checksum is the compressed one's."""
    plain = bytearray(data[:_HEADER_BYTES])
    plain[_ATTRIBUTES_AT + 1] &= ~_CODEC
    whole = b"".join((plain, *records))
    return DefaultRecordBatch(whole), memoryview(whole)


# ------------------------------------------------------------------------------------------------ the careful reading


def _records(chunks: Iterator[bytes | memoryview], data: memoryview) -> Iterator[Record | None]:
    """Read the records of a batch one by one, its header is in `data`; None now and then while a large one goes by."""
    stream = _Stream(chunks)
    first_offset = int.from_bytes(data[:8], "big")
    first_ms, last_ms = _TIMES.unpack_from(data, _TIMES_AT)
    has_log_time = data[_ATTRIBUTES_AT + 1] & _LOG_APPEND_TIME
    for _ in range(int.from_bytes(data[_COUNT_AT:_HEADER_BYTES], "big")):
        stream.varint()  # its length
        stream.take(1)
        time_delta_ms, offset = stream.varint(), first_offset + stream.varint()
        key = yield from stream.bytes_or_unread()
        value = yield from stream.bytes_or_unread()
        headers, headers_cost = yield from _headers(stream)
        kept = sum(len(part) for part in (key, value) if isinstance(part, bytes))
        timestamp_ms = last_ms if has_log_time else first_ms + time_delta_ms
        cost = _RECORD_COST + kept + headers_cost
        yield Record(offset, timestamp_ms, key, value, headers, cost, int(has_log_time != 0))


def _headers(stream: "_Stream") -> Generator[None, None, tuple[list[tuple[str, bytes | None]] | UnreadHeaders, int]]:
    """Read headers; of a name that is not UTF-8 the bytes are written out, in hexadecimal."""
    headers: list[tuple[str, bytes | None]] = []
    size = cost = 0
    count = stream.varint()
    for n in range(count):
        name, value = (yield from stream.bytes_or_unread()), (yield from stream.bytes_or_unread())
        size += len(name or b"") + len(value or b"")
        if cost <= KEPT_BYTES_MAX and isinstance(name, bytes) and not isinstance(value, Unread):
            headers.append((name.decode("utf-8", "backslashreplace"), value))
            cost += _HEADER_COST + len(name) + len(value or b"")
        else:
            cost = KEPT_BYTES_MAX + 1
            headers.clear()
        if n % 1000 == 0:
            yield None
    return (headers, cost) if cost <= KEPT_BYTES_MAX else (UnreadHeaders(count, size), 0)


class _Stream:
    """Bytes that come in chunks."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._chunk: bytes = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Give the next bytes, all of them."""
        at, end = self._at, self._at + size
        if end <= len(self._chunk):
            self._at = end
            return self._chunk[at:end]
        parts = []
        while size:
            part = self._some(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def varint(self) -> int:
        """Read a number as Kafka writes one: seven bits a byte, zigzag."""
        value = shift = 0
        while True:
            if self._at >= len(self._chunk):
                self._fill()
            byte = self._chunk[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                _corrupt("a number without an end")

    def bytes_or_unread(self) -> Generator[None, None, bytes | Unread | None]:
        """Read bytes with their length before them (-1: null); of too many only the digest is kept."""
        size = self.varint()
        if size <= KEPT_BYTES_MAX:
            return self.take(size) if size >= 0 else None
        digest, left = hashlib.sha256(), size
        while left:
            part = self._some(left)
            digest.update(part)
            left -= len(part)
            yield None
        return Unread(size, digest.hexdigest())

    def _some(self, size: int) -> bytes:
        """Give at least one of the next bytes, and at most so many."""
        if self._at >= len(self._chunk):
            self._fill()
        part = self._chunk[self._at : self._at + size]
        self._at += len(part)
        return part

    def _fill(self) -> None:
        self._chunk, self._at = b"", 0
        while not self._chunk:
            self._chunk = bytes(next(self._chunks, None) or _corrupt("it ends within a record"))


def _corrupt(why: str) -> NoReturn:
    raise CorruptRecordException(f"the log is damaged: {why}")
