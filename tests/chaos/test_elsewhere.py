"""The harness on a cluster of the user's: `make test-chaos CLUSTER=janela.toml`."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from processor import topics
from tests.chaos.harness import ROOT, patience
from tests.secured import ADMIN, secured_kafka

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

TRIALS = (
    "tests/chaos/test_exactly_once.py::test_ten_kills_on_the_way_lose_nothing_and_double_nothing",
    "tests/chaos/test_idiomatic_faust.py::test_kills_on_the_way_double_what_idiomatic_faust_has_said[at_least_once]",
)
WITHIN_S = 300


async def test_trials_are_made_on_the_cluster_of_a_settings_file_and_leave_no_topic_there(tmp_path: Path) -> None:
    """One that lets in nobody unknown: so no trial can have been made anywhere else by mistake."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "JANELA_"))}
    with secured_kafka(tmp_path) as cluster:
        access = cluster.by_password(ADMIN)
        file = tmp_path / "janela.toml"
        file.write_text("".join(f'{name} = "{value}"\n' for name, value in access.items()))
        pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "run"))
        harness = await asyncio.create_subprocess_exec(
            *pytest_,
            *TRIALS,
            cwd=ROOT,
            env=theirs | {"CLUSTER": str(file), "MINUTES": "0", "PROOF": "0", "RESULTS": ""},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            told, _ = await asyncio.wait_for(harness.communicate(), WITHIN_S * patience())
        finally:
            with suppress(ProcessLookupError):
                os.killpg(harness.pid, signal.SIGKILL)  # the workers that it has started, too
        assert harness.returncode == 0, told.decode()
        assert f"{len(TRIALS)} passed" in told.decode()
        async with topics.asking(cluster.settings("", access)) as admin:
            left = [name for name in await admin.list_topics() if not name.startswith("__")]
    assert left == []
