"""A verb of `janela` as its users run it: a process of its own, with its settings in the environment."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process

from processor.settings import Settings
from tests.chaos.harness import ROOT, environment, patience


async def started(settings: Settings, *arguments: str, **changed: object) -> Process:
    """Begin a verb; `changed` are settings of its own."""
    return await _begun(subprocess.PIPE, settings, *arguments, **changed)


async def _begun(stdin: int, settings: Settings, *arguments: str, **changed: object) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "processor", *arguments),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(settings, "verb", **changed) | {"PYTHONPATH": str(ROOT)},
    )


async def ended(process: Process, stdin: bytes = b"") -> tuple[int | None, str, str]:
    """Wait for its end; give exit code, stdout and stderr."""
    out, err = await asyncio.wait_for(process.communicate(stdin if process.stdin else None), 60 * patience())
    return process.returncode, out.decode(), err.decode()


async def typed(settings: Settings, words: bytes, *arguments: str) -> tuple[int | None, str, str]:
    """Run a verb with a terminal as its stdin, on which somebody types these words."""
    keyboard, terminal = os.openpty()
    try:
        os.write(keyboard, words)
        return await ended(await _begun(terminal, settings, *arguments))
    finally:
        os.close(keyboard)
        os.close(terminal)


async def janela(
    settings: Settings, *arguments: str, stdin: bytes = b"", **changed: object
) -> tuple[int | None, str, str]:
    """Run a verb to its end; give exit code, stdout and stderr."""
    return await ended(await started(settings, *arguments, **changed), stdin)
