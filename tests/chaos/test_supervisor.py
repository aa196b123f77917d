"""The supervisor starts again what ended with "could not go on", and nothing else."""

import asyncio
from pathlib import Path

import pytest

from processor.settings import Settings
from tests.chaos.harness import Stage, patience
from tests.chaos.supervisor import Supervisor

pytestmark = [pytest.mark.chaos, pytest.mark.short]

END_S = 60


async def test_a_worker_that_refuses_to_run_is_not_started_again(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        with pytest.raises(ExceptionGroup) as raised:
            async with Supervisor.open(stage, "a"):
                await asyncio.sleep(END_S * patience())
    assert raised.group_contains(AssertionError, match=r"not to be started again: --- a \(exit code 2\)")
