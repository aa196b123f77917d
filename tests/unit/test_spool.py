"""A spool gives what was put in, in order, as often as it is asked and leaves no file behind."""

import errno
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from processor.audit import spool
from processor.audit.findings import Written
from processor.audit.records import Record
from processor.audit.spool import Spool
from processor.settings import SettingsError

HEADERS = (("trace", b"1"), ("trace", None), ("", b"\xff"))


def written(number: int) -> Written:
    return Written(number, 7, None if number % 2 else b"\x00key", None if number % 3 else b"v" * number, HEADERS)


def in_blocks_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a block end with its first record (1), or after some of them."""
    monkeypatch.setattr(spool, "BLOCK_BYTES", size)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
def test_what_was_put_in_comes_out_as_it_was(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(300, monkeypatch)
    records = [written(number) for number in range(count)]
    with closing(Spool(Written)) as spooled:
        for record in records:
            spooled.append(record)
        assert list(spooled) == list(spooled) == records


def test_two_may_go_through_it_at_once_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(100, monkeypatch)
    with closing(Spool(Written)) as spooled:
        for number in range(5):
            spooled.append(written(number))
        one, other = iter(spooled), iter(spooled)
        pairs = [(next(one), next(other)) for _ in range(4)]
        spooled.append(written(5))
        assert [a.offset for a, _ in pairs] == [b.offset for _, b in pairs] == [0, 1, 2, 3]
        assert [record.offset for record in spooled] == [0, 1, 2, 3, 4, 5]


def test_every_field_of_an_input_is_kept() -> None:
    records = [
        Record("inbound", 3, 4, -1, b"k", b"v", HEADERS, 5),
        Record("outbound", 3, 2**62, 2**62, None, None),
    ]
    with closing(Spool(Record)) as spooled:
        for record in records:
            spooled.append(record)
        assert list(spooled) == records


def test_the_file_is_where_temporary_ones_are_under_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    in_blocks_of(1, monkeypatch)
    with closing(Spool(Written)) as spooled:
        spooled.append(written(0))
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        list(spooled)


def test_no_more_than_a_block_is_held_however_large_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    monkeypatch.setattr(Spool, "_write", lambda _, block: blocks.append(len(block)))
    with closing(Spool(Written)) as spooled:
        for number in range(8):
            spooled.append(Written(number, 7, None, b"v" * (spool.BLOCK_BYTES // 2)))
    assert len(blocks) == 4


def test_a_write_that_the_system_cuts_short_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(1, monkeypatch)
    with closing(Spool(Written)) as spooled:
        file = spooled._file
        spooled._file = Thrifty(file)  # type: ignore[assignment]
        spooled.append(written(10))
        spooled._file = file
        assert list(spooled) == [written(10)]


class Thrifty:
    """A file that takes three bytes at a time."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, part: memoryview) -> int:
        return int(self._file.write(part[:3]))


def test_a_folder_without_room_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    in_blocks_of(1, monkeypatch)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with closing(Spool(Written)) as spooled:
        file, spooled._file = spooled._file, type("Full", (), {"write": full})()
        with pytest.raises(
            SettingsError, match=f"TMPDIR: found {tmp_path} .no space left., expected a folder with room"
        ):
            spooled.append(written(0))
        spooled._file = file
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(SettingsError, match="TMPDIR"):
        Spool(Written)


def test_too_many_open_files_are_not_put_down_to_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tempfile, "TemporaryFile", exhausted)
    with pytest.raises(SettingsError, match=r"^open files \(ulimit -n\): found as many as are allowed"):
        Spool(Written)
