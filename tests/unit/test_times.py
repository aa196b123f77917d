"""Times on the wire: what is taken, what is refused, and that nothing is lost on the way."""

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from processor.codec.times import format_time, parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_9999_MS = 253_370_764_800_000


def rfc3339(ms: int) -> str:
    """Write a time as `datetime` would."""
    moment = EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("2026-11-22T18:47:19.000Z", 1795373239000),
        ("2026-11-22T18:47:19.007Z", 1795373239007),
        ("2026-11-22T18:47:19Z", 1795373239000),
        ("2026-11-22t18:47:19.000z", 1795373239000),
        ("2026-11-22 18:47:19.000Z", 1795373239000),
        ("2026-11-22 18:47:19+00:00", 1795373239000),
        ("2026-11-22T18:47:19-00:00", 1795373239000),
        ("2026-11-22T15:47:19.000-03:00", 1795373239000),
        ("2026-11-23T00:17:19+05:30", 1795373239000),
        ("2026-11-23T18:46:19+23:59", 1795373239000),
        ("2026-11-21T18:48:19-23:59", 1795373239000),
        ("2026-11-22T18:47:19.1Z", 1795373239100),
        ("2026-11-22T18:47:19.01Z", 1795373239010),
        ("2026-11-22T18:47:19.0009Z", 1795373239000),
        ("2026-11-22T18:47:19.999999999999Z", 1795373239999),
        ("2026-11-22T18:47:19." + "1" * 500 + "Z", 1795373239111),
        ("2028-02-29T12:00:00.000Z", 1835438400000),
        ("2000-02-29T00:00:00Z", 951782400000),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:00:00-01:00", 0),
        ("9998-12-31T23:59:59.999Z", YEAR_9999_MS - 1),
        (1795373239, 1795373239000),
        ("1795373239", 1795373239000),
        (1795373239123, 1795373239123),
        ("1795373239123", 1795373239123),
        (1000000000, 1000000000000),
        (9999999999, 9999999999000),
        (1000000000000, 1000000000000),
        (9999999999999, 9999999999999),
        ("0000000000", 0),
        ("0000000000001", 1),
    ],
)
def test_a_time_is_taken_in_each_of_its_forms(written: str | int, ms: int) -> None:
    """W2"""
    assert parse_time(written) == ms
    assert parse_time(written) == ms  # and again, from the caches


NO_TIMES = [
    # nothing, or not enough
    *("", " ", "now", "0", "1", "-1", "Z", "T", "null"),
    *("2026-11-22", "2026-11-22T18:47", "2026-11-22T18:47Z", "2026-11-22T18:47:19", "2026-11-22T18:47:19.000"),
    *("2026-11-22T18:47:19.Z", "2026-11-22T18:47:19,000Z", "2026-11-22T18:47:1.000Z"),
    # something before, between or after
    *(" 2026-11-22T18:47:19.000Z", "2026-11-22T18:47:19.000Z ", "2026-11-22T18:47:19 Z", "2026-11-22T18:47:19.000ZZ"),
    *("2026-11-22T18:47:19.000Z\n", "\n2026-11-22T18:47:19.000Z", "2026-11-22T18:47:19.000Z\x00"),
    # not in the calendar, not on the clock
    *("2026-13-22T18:47:19.000Z", "2026-00-22T18:47:19.000Z", "2026-11-00T18:47:19.000Z"),
    *("2026-11-31T18:47:19.000Z", "2026-02-30T18:47:19.000Z", "2027-02-29T18:47:19.000Z", "1900-02-29T00:00:00Z"),
    *("2026-11-22T24:00:00.000Z", "2026-11-22T23:60:00.000Z", "2026-11-22T23:59:60.000Z", "2026-11-22T25:00:00Z"),
    # no zone that RFC 3339 knows
    *("2026-11-22T18:47:19.000+3:00", "2026-11-22T18:47:19.000+0300", "2026-11-22T18:47:19.000+03"),
    *("2026-11-22T18:47:19.000+24:00", "2026-11-22T18:47:19.000+03:60", "2026-11-22T18:47:19.000 +03:00"),
    *("2026-11-22T18:47:19.000+03:00:00", "2026-11-22T18:47:19.000BRT", "2026-11-22T18:47:19.000\u221203:00"),
    # other ways to write a date
    *("20261122T184719Z", "2026-W47-7T18:47:19Z", "2026-326T18:47:19Z", "26-11-22T18:47:19.000Z"),
    *("+2026-11-22T18:47:19.000Z", "-2026-11-22T18:47:19.000Z", "12026-11-22T18:47:19.000Z"),
    *("2026/11/22T18:47:19.000Z", "2026-11-22X18:47:19.000Z", "2026-11-22T18-47-19.000Z"),
    *("2026-1-22T018:47:19.000Z", "2026-11-2T018:47:19.000Z", "Sun, 22 Nov 2026 18:47:19 GMT"),
    # before 1970
    *("1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.999+00:01", "0001-01-01T00:00:00Z"),
    *("0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000+23:59"),
    # so late that its window's end could not be written
    *("9999-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999-23:59"),
    # digits of other scripts
    *("\u0662\u0660\u0662\u0666-11-22T18:47:19.000Z", "2026-11-22T18:47:19.\u0660\u0660\u0660Z"),
    *("\uff11\uff17\uff19\uff15\uff13\uff17\uff13\uff12\uff13\uff19", "179537323\u00b2"),
    # numbers of other lengths and in other forms
    *("179537323", "17953732391", "179537323912", "17953732391234", "1795373239123456789", "1_795_373_239"),
    *("+1795373239", "-1795373239", "1795373239.0", "1795373239e0", " 1795373239", "1795373239\n", "0x6B0B7DB7"),
]


@pytest.mark.parametrize("written", NO_TIMES)
def test_what_is_no_time_is_none(written: str) -> None:
    """W2: time negative, "0", without a zone."""
    assert parse_time(written) is None
    assert parse_time(written) is None


@pytest.mark.parametrize(
    "written",
    [
        *(0, 1, -1, -1795373239, 999_999_999, 10**10, 10**12 - 1, 10**13, 10**30, -(10**30), 10**4000),
        *(True, False, None, 1795373239.0, 1795373239123.0, float("nan"), float("inf")),
        *([], [1795373239], {}, {"seconds": 1795373239}, b"1795373239"),
    ],
    ids=lambda written: f"{type(written).__name__}",
)
def test_what_is_no_text_and_no_number_of_ten_or_thirteen_digits_is_none(written: object) -> None:
    """W2"""
    assert parse_time(written) is None


@pytest.mark.parametrize(
    ("ms", "written"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1795373239007, "2026-11-22T18:47:19.007Z"),
        (1835438399999, "2028-02-29T11:59:59.999Z"),
        (YEAR_9999_MS + 365 * 86_400_000 - 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(ms: int, written: str) -> None:
    assert format_time(ms) == written


def test_what_is_written_is_read_again() -> None:
    numbers = random.Random(3)
    for _ in range(20_000):
        ms = numbers.randrange(YEAR_9999_MS)
        assert format_time(ms) == rfc3339(ms)
        assert parse_time(format_time(ms)) == ms


def test_a_zone_moves_a_time_by_what_it_says() -> None:
    numbers = random.Random(4)
    for _ in range(5_000):
        ms, minutes = numbers.randrange(10**12, 2 * 10**12), numbers.randrange(-1439, 1440)
        local = (EPOCH + timedelta(milliseconds=ms)).astimezone(timezone(timedelta(minutes=minutes)))
        assert parse_time(local.isoformat(timespec="milliseconds")) == ms
