"""The standard streams of a process: there although whoever started it closed them, and quiet once they are full."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Final

_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


def open_missing() -> None:
    """Open the null device for each stream that was closed (``2>&-``): Python has None there, and so have its users.

    In this order each gets its own number, which else the first socket would have.
    """
    for name, mode in _MODES.items():
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # it ends with us


def escape_foreign() -> None:
    """Have escaped what the locale has no letter for, where Python would end in the middle of a line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_full(error: OSError) -> bool:
    """Tell whether a write failed because nothing more goes in, or nobody reads on; files have a name."""
    return error.filename is None and error.errno in _FULL


def give_up_stdout() -> None:
    """Drop what waits to be written: Python would try again as it ends, and write a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
