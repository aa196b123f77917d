"""Where a partition stood when: the begins and ends of the rounds that its records tell of.

Within a round, and where no round is known, the inputs are taken by event time; a round's end comes before whatever the
next one takes. So with the rounds that are known the order of the inputs is the one in which the workers took them,
and the clock goes as theirs went.
"""

import struct
from collections.abc import Sequence
from typing import Final

from processor.audit.rounds import HEADER, Round
from processor.codec.rounds import Standing, round_header

_PACKED: Final = struct.Struct(">QQQ")  # 57 bytes each, and in order as they are; as a tuple it takes 160

Headers = Sequence[tuple[str, bytes | None]]


class Standings:
    """Gathers standings from the headers of records: some 90 bytes of memory for each round."""

    def __init__(self) -> None:
        """Begin with none."""
        self._packed: set[bytes] = set()
        self._last = b""
        self._newest: Round | None = None

    def note(self, headers: Headers) -> None:
        """Take note of a record's round, if it tells of one."""
        text = next((text for name, text in headers if name == HEADER), None)
        if not text or text == self._last:
            return
        self._last = text
        if (round_ := Round.read(headers)) is None:
            return
        self._packed.add(_PACKED.pack(round_.inbound_from, round_.outbound_from, round_.clock_from_ms))
        self._packed.add(_PACKED.pack(*round_.end))
        if self._newest is None or round_.end > self._newest.end:
            self._newest = round_

    def until(self, end: Standing) -> list[Standing]:
        """Give the standings in their order, `end` last; what contradicts those before it, or `end`, is left out."""
        found: list[Standing] = []
        before = 0, 0, 0
        for packed in sorted(self._packed):
            standing = _PACKED.unpack(packed)
            if _goes_on(before, standing) and _goes_on(standing, end):
                found.append(standing)
                before = standing
        if before != end:
            found.append(end)
        return found

    def told(self, end: Standing) -> tuple[str, bytes]:
        """Give the header of records that are true at `end`: the round that ended there, or one that only stands there.

        A round that led there would tell of an idle clock that was moved without a look at the ends: what is between
        two rounds was taken by rounds that wrote nothing.
        """
        if self._newest is not None and self._newest.end == end:
            return HEADER, str(self._newest).encode()
        return round_header(end, end, [None] * 3)


def _goes_on(before: Standing, after: Standing) -> bool:
    return all(first <= second for first, second in zip(before, after, strict=True))
