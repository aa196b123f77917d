"""Named places where a crash test ends the process, as SIGKILL does: nothing is finished, nobody is told.

`JANELA_FAILPOINT=records-delivered:3` ends it when it comes to that place for the third time. The places lie between
the steps of a round, so where the variable is not set each costs one call in thousands of events.
"""

import itertools
import os
import signal
import sys
from typing import Final

FAILPOINTS: Final = (
    "records-fetched",  # a carrier has arrived
    "events-applied",  # an owner's state is ahead of all that is written
    "round-built",  # one owner has decided, the others have not
    "transaction-begun",
    "records-sent",  # not yet acknowledged
    "records-half-delivered",  # the first batch is acknowledged, those to other brokers or of later requests are not
    "records-delivered",
    "group-added",  # AddOffsetsToTxn is answered, TxnOffsetCommit is not sent
    "offsets-sent",
    "transaction-ended",  # EndTxn is answered, the worker does not know it yet
    "idle-timers-due",
    "idle-timers-fired",
    "assigned",  # offsets are known, nothing is restored
    "restore-begun",
    "restore-half-read",  # the first fetch that goes beyond half of a partition's state
    "restore-nearly-read",  # the same of 99 %
    "restore-read",  # the records of a partition are read, not yet decoded
    "restore-decoded",  # its owner is not yet at work
    "revoking",  # a transaction may be under way
    "revoked",
    "shut-down",  # the last transaction is committed, the group not left
)


_VARIABLE: Final = "JANELA_FAILPOINT"


def _armed(text: str) -> tuple[str, int]:
    name, _, given = text.partition(":")
    times = given or "1"
    if text and (name not in FAILPOINTS or not times.isdecimal() or int(times) == 0):
        allowed = f"NAME, or NAME:TIMES with TIMES from 1 on, of {', '.join(FAILPOINTS)}"
        sys.stderr.write(f"{_VARIABLE}: found {text!r}, allowed are {allowed}\n")
        raise SystemExit(2)
    return name, int(times)


_name, _times = _armed(os.environ.get(_VARIABLE, ""))
_passes = itertools.count(1)


def failpoint(name: str) -> None:
    """End the process here, if this is the place and the time."""
    if name == _name and next(_passes) == _times:
        os.kill(os.getpid(), signal.SIGKILL)


def restore_moved(stood_at: int, stands_at: int, end: int) -> None:
    """Come by the places on the way of a restore, by the sum of a partition's positions."""
    for name, share in (("restore-half-read", 0.5), ("restore-nearly-read", 0.99)):
        if stood_at < share * end <= stands_at:
            failpoint(name)
