"""What stands beside a committed offset: everything a successor must know that is not in the state records."""

from typing import Final

import msgspec

UNFINISHED: Final = 0
"""The version of a progress beside which the state is not whole: `janela rebuild` is writing it, or broke off."""


class OffsetError(ValueError):
    """A committed offset bears metadata that this worker can't read, or must not go on from."""


class Progress(msgspec.Struct, frozen=True):
    """The metadata of a committed offset, the same on both topics of a partition."""

    clock_ms: int
    """How far timers have fired (event time): what was due by then has fired."""
    sequence: int
    """The number of the last output."""
    partitions: int
    """The number of partitions that the keys were spread over."""
    token: str
    """Who wrote it: a random number of the process, and a count. State is kept over a rebalance only if it is ours."""
    transactional_id: str
    v: int = 1


_decode = msgspec.json.Decoder(Progress).decode


def encode_progress(progress: Progress) -> str:
    """Write the metadata, as JSON."""
    return msgspec.json.encode(progress).decode()


def decode_progress(metadata: str, *, unfinished_too: bool = False) -> Progress:
    """Read the metadata of a committed offset; whose state is not whole only where that is asked for.

    Raises:
        OffsetError: It is not ours, or of a newer version, or unfinished; the message says what to do.
    """
    try:
        progress = _decode(metadata)
    except msgspec.MsgspecError as error:
        found = f"the committed offset bears no progress of this application: {error}"
        raise OffsetError(f"{found}; use another app_id") from None
    if progress.v == UNFINISHED:
        if unfinished_too:
            return progress
        raise OffsetError("its state is being rebuilt, or a rebuild of it broke off; run `janela rebuild` to its end")
    if progress.v != 1:
        found = f"the committed progress has version {progress.v}, this worker knows 1"
        raise OffsetError(f"{found}; use another app_id")
    return progress
