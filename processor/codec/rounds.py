"""What each record tells of the round that it was written in: with it the topics alone prove what came of what."""

from collections.abc import Sequence

Standing = tuple[int, int, int]
"""Where a partition stands: the offsets of its inputs, inbound first, and its clock (ms)."""


def round_header(began: Standing, ended: Standing, found: Sequence[int | None]) -> tuple[str, bytes]:
    """Tell of a round, from where it began to where it ended.

    `found`: the ends of both inputs, None where they were not asked for, and when that was (brokers' time). Whoever
    knows this of all rounds can say what must have come of them, also where idle time moved the clock: `janela verify`.
    It is written as distances, since it stands on each record: `schemas/README.md` has the form.
    """
    text = " ".join(
        f"{start}+{to - start}" + ("" if end is None else f"/{end - to}")
        for start, to, end in zip(began, ended, (None,) * 3 if None in found else found, strict=True)
    )
    return "janela-round", text.encode()
