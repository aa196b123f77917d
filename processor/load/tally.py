"""What a load has done so far: counts and delays that add up over processes."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from processor.load.delays import Delays, from_text, to_text


class Tally(msgspec.Struct):
    """Counts of one process, or of several together."""

    made: int = 0
    """Records that were taken up, each at its moment or after."""
    acknowledged: int = 0
    """Records that every copy in sync has."""
    failed: int = 0
    """Records that the brokers refused; they may have the rest of a batch that they did not answer for."""
    bytes: int = 0
    """Of the batches that were acknowledged."""
    by_topic: dict[str, int] = msgspec.field(default_factory=dict)
    """Records acknowledged, by topic."""
    kinds: dict[str, int] = msgspec.field(default_factory=dict)
    """Records made, by side and by what is wrong with them."""
    behind: Delays = msgspec.field(default_factory=Delays)
    """How long after its moment each record was taken up."""
    delays: Delays = msgspec.field(default_factory=Delays)
    """How long after its first record's moment each batch was acknowledged."""
    behind_us: int = 0
    """How far behind its schedule it is now."""
    cpu_s: float = 0
    """Processor time from the begin on."""
    ended_us: int = 0
    """When the last acknowledgement came (wall clock)."""
    error: str = ""
    """The first thing that the brokers refused, in their words."""
    is_whole: bool = False
    """Whether the schedule was followed to its end, and all of it answered for."""

    @property
    def in_flight(self) -> int:
        """Records that were taken up and not answered for."""
        return self.made - self.acknowledged - self.failed


def together(tallies: Iterable[Tally]) -> Tally:
    """Add up what several processes have done."""
    total, by_topic, kinds = Tally(is_whole=True), Counter[str](), Counter[str]()
    for tally in tallies:
        total.made += tally.made
        total.acknowledged += tally.acknowledged
        total.failed += tally.failed
        total.bytes += tally.bytes
        by_topic.update(tally.by_topic)
        kinds.update(tally.kinds)
        total.behind.add(tally.behind)
        total.delays.add(tally.delays)
        total.behind_us = max(total.behind_us, tally.behind_us)
        total.cpu_s += tally.cpu_s
        total.ended_us = max(total.ended_us, tally.ended_us)
        total.error = total.error or tally.error
        total.is_whole = total.is_whole and tally.is_whole
    total.by_topic, total.kinds = dict(by_topic), dict(kinds)
    return total


encode_tally = msgspec.json.Encoder(enc_hook=to_text).encode
decode_tally = msgspec.json.Decoder(Tally, dec_hook=from_text).decode
