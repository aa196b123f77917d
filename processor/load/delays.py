"""Delays of any number, in a histogram of high dynamic range (HdrHistogram): each is known to one part in a thousand.

A histogram travels and is kept as base64 of HdrHistogram's V2 encoding, which the tools of other languages read too.
"""

from typing import Any, Final, Self

from processor.settings import SettingsError

try:
    from hdrh.histogram import HdrHistogram
except ImportError:
    raise SettingsError(["hdrhistogram is not installed: `pip install 'janela-stream[load]'` brings it"]) from None

LONGEST_US: Final = 24 * 3600 * 1_000_000
"""What takes longer counts as this."""
_DIGITS: Final = 3


class Delays:
    """Some delays."""

    def __init__(self) -> None:
        """Begin with none."""
        self._histogram: Any = HdrHistogram(1, LONGEST_US, _DIGITS)

    @classmethod
    def decoded(cls, text: str) -> Self:
        """Read what `encoded` has written.

        Raises:
            ValueError: It is no such histogram.
        """
        delays = cls()
        try:
            delays._histogram.decode_and_add(text.encode())
        except Exception as error:  # noqa: BLE001  # hdrh, zlib and base64 raise five kinds, of no common one
            raise ValueError(f"no histogram: {error}") from None
        return delays

    def encoded(self) -> str:
        """Write it as text."""
        text: str = self._histogram.encode().decode()
        return text

    def note(self, delay_us: int, count: int = 1) -> None:
        """Count a delay, so many times; one that is negative is none."""
        self._histogram.record_value(min(max(delay_us, 0), LONGEST_US), count)

    def add(self, other: Self) -> None:
        """Add what another has counted."""
        if other.count:
            self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        """How many there are."""
        count: int = self._histogram.get_total_count()
        return count

    def quantiles_ms(self, *shares: float) -> list[float]:
        """Give the delays (ms) that these shares of all do not exceed, at most 0.1 % too long; 0 where there are none.

        The share 1.0 is the longest.
        """
        found = self._histogram.get_percentile_to_value_dict([share * 100 for share in shares]) if self.count else {}
        return [round(found.get(share * 100, 0) / 1000, 2) for share in shares]


def to_text(value: object) -> str:
    """Encode delays within a message (an `enc_hook` of msgspec)."""
    if isinstance(value, Delays):
        return value.encoded()
    raise NotImplementedError(f"found {type(value)}, expected delays")


def from_text(kind: type, value: Any) -> Delays:
    """Decode delays within a message (a `dec_hook` of msgspec)."""
    if kind is Delays and isinstance(value, str):
        return Delays.decoded(value)
    raise NotImplementedError(f"found {kind}, expected delays")
