"""The rounds that a partition's records tell of, gathered to a schedule; in files, since every commit adds one."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, closing
from types import MappingProxyType
from typing import Final

from processor.audit.findings import OUTPUTS, STATES, Found, Written, parsed, sequence_of
from processor.audit.rounds import Leave, Round, Schedule, Witness, chained
from processor.audit.spool import Spool

RUNS_MAX: Final = 50
"""How many files the rounds of a partition may take; each is held open."""
BLOCK_BYTES: Final = 64 * 1024
"""What each of these files takes of memory, some times over, while it is read."""


class Witnesses:
    """Gathers the rounds that the records of a partition tell of, and makes a schedule of them; `close` deletes them.

    They wait in temporary files, in runs that each are in order, as rounds are on a topic by itself: there are no more
    runs than topics, unless a topic goes back.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._runs: list[tuple[Spool[Witness], Round]] = []
        """Each run, and its last round."""
        self._files = ExitStack()
        self._is_told = True

    def note(self, topic: str, record: Written) -> None:
        """Take note of a record of `OUTPUTS` or `STATES`, of whatever contact."""
        round_ = Round.read(record.headers)
        if round_ is None:
            self._is_told = bool(self._runs)
            return
        self._is_told = True
        at = next((at for at, (_, last) in enumerate(self._runs) if last.rank <= round_.rank), len(self._runs))
        if at == RUNS_MAX:
            at -= 1  # a topic went back that often, which is told; what the merge makes of this one no longer matters
        elif at == len(self._runs):
            self._runs.append((self._spool(), round_))
        elif self._runs[at][1] == round_:
            return
        run = self._runs[at][0]
        run.append(Witness(round_, topic, record.offset, record.timestamp_ms))
        self._runs[at] = run, round_

    def schedule(
        self, leave: Leave, *, until: tuple[int, int, int] | None = None, clock_ms: int | None = None, is_whole: bool
    ) -> Schedule | None:
        """Give the rounds up to `until` (a worker goes on meanwhile; None: all).

        None where event time alone moves the clock and no record tells of its round: by that they are judged then.
        """
        if not (self._is_told or leave.moves_idle_clock):
            return None
        in_order = heapq.merge(*(run for run, _ in self._runs), key=lambda witness: witness.round.rank)
        chain = self._spool()
        for witness in chained(each for each in in_order if until is None or not _is_beyond(each.round, until)):
            chain.append(witness)
        return Schedule(chain, leave, clock_ms, is_whole)

    def close(self) -> None:
        """Delete them, those of a schedule too."""
        self._files.close()

    def _spool(self) -> Spool[Witness]:
        return self._files.enter_context(closing(Spool(Witness, BLOCK_BYTES)))


def _is_beyond(round_: Round, end: tuple[int, int, int]) -> bool:
    return any(to > most for to, most in zip(round_.end, end, strict=True))


def until_cut(
    found: Found, end: tuple[int, int, int], since: Mapping[str, AbstractSet[str]] = MappingProxyType({})
) -> Found:
    """Leave out what was written by rounds beyond a cut; `since` are keys of states that were written after all this.

    What is known of a key at the cut can be told from what lies there only where nothing more was written of it.
    """
    of_rounds = {topic: _Until(found.written.get(topic, ()), end) for topic in (*OUTPUTS, *STATES)}
    moved = {
        topic: {each.key_text for each in found.written.get(topic, ()) if _is_later(each, found, end)}
        | since.get(topic, frozenset())
        for topic in STATES
    }
    return found._replace(written={**found.written, **of_rounds}, moved=moved)


def _is_later(record: Written, found: Found, end: tuple[int, int, int]) -> bool:
    """Whether a state was written beyond a cut, as far as can be told: by its round, or else by its number."""
    if (round_ := Round.read(record.headers)) is not None:
        return _is_beyond(round_, end)
    sequence = sequence_of(parsed(record.value))
    return not sequence or found.is_later(sequence)


class _Until(Iterable[Written]):
    def __init__(self, records: Iterable[Written], end: tuple[int, int, int]) -> None:
        self._records, self._end = records, end

    def __iter__(self) -> Iterator[Written]:
        for record in self._records:
            round_ = Round.read(record.headers)
            if round_ is None or not _is_beyond(round_, self._end):
                yield record
