"""The quickstart as its reader does it: every command of the page in its order, by a shell, on a real broker."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

import pytest

from processor.settings import Settings
from tests.chaos.harness import environment, patience
from tests.documents import ROOT, shell_blocks
from tests.kafka import Kafka

PAGE: Final = ROOT / "docs/quickstart.md"
LEFT_OUT: Final = {
    "pip install 'janela-stream[embedded]'": "it is installed, from the sources",
    "janela kafka": "the run's one Kafka stands in for it (tests/integration/test_embedded_kafka.py runs the verb)",
}
"""Commands of the page that are not run here, and why."""
IN_ANOTHER_TERMINAL: Final = "janela worker"
END: Final = "kill %1; wait %1"


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    """Give what a reader with a broker elsewhere sets; the page sets the rest."""
    prefix = topic_prefix
    return Settings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=prefix, app_id=f"{prefix}janela")


def script(page: str) -> str:
    """Make one shell script of the page; it ends at the first command that fails, and with the worker's exit code."""
    lines = [line for block in shell_blocks(page) for line in block.splitlines()]
    assert {*lines} >= LEFT_OUT.keys() | {IN_ANOTHER_TERMINAL}
    run = [line for line in lines if line not in LEFT_OUT]
    assert len(run) == len(lines) - len(LEFT_OUT)
    run[run.index(IN_ANOTHER_TERMINAL)] += " >worker.log 2>&1 &"
    return "\n".join(["set -e", "trap 'kill %1' ERR", *run, END])


async def shell(text: str, folder: Path, variables: dict[str, str]) -> tuple[int | None, str, str]:
    """Run a script in a folder where the page's policy lies; give exit code, stdout and stderr."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", text),
        cwd=folder,
        env=variables | {"PATH": path},
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,  # so that a worker ends with a script that has to be ended
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 100 * patience())
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.timeout(300)
async def test_the_commands_of_the_quickstart_do_in_their_order_what_it_says(
    settings: Settings, tmp_path: Path
) -> None:
    page = PAGE.read_text("utf-8")
    (policy,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    (tmp_path / "policy.toml").write_text(policy)
    code, out, err = await shell(script(page), tmp_path, environment(settings, "quickstart"))
    assert code == 0, out + err
    kind = re.compile(r"^(?:\S+ )?\d\d:\d\d:\d\d  (\w+) +(\S+)", re.MULTILINE)
    assert kind.findall(out) == kind.findall(shown)
    assert [word for _, word in kind.findall(shown)] == 4 * ["whatsapp:106540352242922:5511900001234"]
    for claim in re.findall(r'`("\w+":[^`]+)`', page):
        assert claim in out
    assert re.search(r"dead letters +1\b", out)
    assert "nothing is wrong" in out
    told = (tmp_path / "worker.log").read_text()
    assert all(line in told for line in ("stream.assigned", "stream.restored", "worker.stopped"))
