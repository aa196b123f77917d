"""A spool gives what was put in, in order, as often as it is asked and leaves no file behind."""

import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from processor.audit import spool
from processor.audit.findings import Written
from processor.audit.records import Record
from processor.audit.spool import Spool

HEADERS = (("trace", b"1"), ("trace", None), ("", b"\xff"))


def written(number: int) -> Written:
    return Written(number, 7, None if number % 2 else b"\x00key", None if number % 3 else b"v" * number, HEADERS)


def in_blocks_of(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BLOCK_RECORDS", records)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
def test_what_was_put_in_comes_out_as_it_was(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(10, monkeypatch)
    records = [written(number) for number in range(count)]
    with closing(Spool(Written)) as spooled:
        for record in records:
            spooled.append(record)
        assert list(spooled) == list(spooled) == records


def test_two_may_go_through_it_at_once_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(2, monkeypatch)
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
