"""What a verb leaves behind at its end: a file, and what it says on stdout. Either may lie on a disk that is full."""

import os
import sys
from pathlib import Path
from typing import Final

import typer

UNSAID: Final = 1
"""Exit code where all was done, and stdout can't be written."""


def write_file(path: Path, text: str) -> None:
    """Write a file beside its place and move it there, so that it is whole or as it was; a device is written to.

    Raises:
        OSError: It can't be written.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_text(text, "utf-8")
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, "utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def say(verb: str, text: str) -> None:
    """Print the result of a verb, and see it out.

    Raises:
        BrokenPipeError: Nobody reads it.
        Exit: It can't be written, which a line on stderr tells.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"janela {verb}: stdout can't be written: {error.strerror}", file=sys.stderr)
        # what is left in the buffer would fail a second time as the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(UNSAID) from None
