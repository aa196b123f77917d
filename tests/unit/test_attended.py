"""The worker of `janela up`, where it or whoever looks on is gone before its time."""

import asyncio
import signal

import pytest

from processor.cli.attended import AttendedWorker, WorkerError


async def gone(worker: AttendedWorker) -> None:
    """Kill it, and wait until it is gone."""
    worker._process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(worker._process.wait)


async def test_a_worker_that_ended_before_its_word_is_told_with_its_log() -> None:
    async with AttendedWorker() as worker:
        await gone(worker)
        with pytest.raises(WorkerError, match=r"the worker ended by itself \(signal 9\)") as told:
            worker.begin({})
        worker._process.returncode = 0  # as if it had been stopped
    assert "its log" in str(told.value)


async def test_a_reader_of_our_output_that_went_away_is_no_failure_of_the_worker() -> None:
    with pytest.raises(BrokenPipeError):
        async with AttendedWorker() as worker:
            raise BrokenPipeError
    assert worker._process.returncode == -signal.SIGTERM
    assert not worker.log.parent.exists()
