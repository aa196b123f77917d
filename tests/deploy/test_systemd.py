"""The systemd unit: what systemd says of it, and that a worker asks the kernel for nothing that it forbids."""

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from processor.settings import ENV_PREFIX, Settings
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import Stage, environment
from tests.deploy.tools import DEPLOY, DRAIN_SECONDS_MAX, ROOT, needs, passed, path_of, ran
from tests.integration.test_ops import free_address

UNIT = DEPLOY / "systemd/janela@.service"
EXPOSURE_MAX = 15
"""In tenths, of 100; a unit that says nothing has 96."""
STARTED_S = 60


def values(key: str) -> list[str]:
    """Give all values of a key of the unit, in order."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def test_a_worker_has_more_time_to_stop_than_it_takes() -> None:
    (seconds,) = values("TimeoutStopSec")
    assert int(seconds) > DRAIN_SECONDS_MAX


def test_what_the_unit_sets_are_settings_and_each_instance_has_its_own() -> None:
    (line,) = values("Environment")
    given = dict(each.split("=", 1) for each in line.split())
    ours = [name.removeprefix(ENV_PREFIX).lower() for name in given if name.startswith(ENV_PREFIX)]
    assert set(ours) <= Settings.model_fields.keys()
    assert "%i" in given["JANELA_INSTANCE_ID"]
    assert "%i" in given["JANELA_OPS_ADDRESS"]


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """Give an instance of the unit that runs the program of this environment."""
    path = tmp_path / "janela@9464.service"
    program = Path(sys.executable).parent / "janela"
    path.write_text(UNIT.read_text("utf-8").replace("/opt/janela/bin/janela", str(program)))
    return path


@needs("systemd-analyze", unchecked="the unit by systemd")
def test_systemd_finds_nothing_wrong_with_the_unit(instance: Path) -> None:
    done = ran("systemd-analyze", "verify", instance)
    assert (done.returncode, done.stderr) == (0, "")


@needs("systemd-analyze", unchecked="the unit by systemd")
def test_systemd_would_find_a_key_that_it_does_not_know(instance: Path) -> None:
    instance.write_text(instance.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in ran("systemd-analyze", "verify", instance).stderr


@needs("systemd-analyze", unchecked="how much of the machine the unit leaves open")
def test_the_unit_leaves_little_of_the_machine_open(instance: Path) -> None:
    arguments = ("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}")
    passed("systemd-analyze", *arguments, instance)
    open_ = re.sub(
        r"^(Protect|Private|Restrict|SystemCall|Capability).*\n", "", instance.read_text(), flags=re.MULTILINE
    )
    instance.write_text(open_)
    assert ran("systemd-analyze", *arguments, instance).returncode != 0


def allowed_calls() -> set[str]:
    """Give the system calls that the unit's filters let through, by systemd's own sets."""
    sets: dict[str, set[str]] = {}
    name = ""
    for line in passed("systemd-analyze", "--no-pager", "syscall-filter").splitlines():
        word = line.partition("#")[0].strip()
        if word and not line.startswith(" "):
            sets[name := word] = set()
        elif word:
            sets[name].add(word)

    def calls(name: str) -> set[str]:
        return set().union(*(calls(each) if each.startswith("@") else {each} for each in sets[name]))

    allow, deny = values("SystemCallFilter")
    allowed = set().union(*map(calls, [*allow.split(), "@default"]))
    return allowed - set().union(*map(calls, deny.removeprefix("~").split()))


@needs("strace", "systemd-analyze", unchecked="that the unit allows what a worker asks the kernel for")
async def test_a_worker_asks_the_kernel_for_nothing_that_the_unit_forbids(settings: Settings, tmp_path: Path) -> None:
    trace, log = tmp_path / "trace", tmp_path / "log"
    command = [str(path_of("strace")), "-f", "-qq", "-o", str(trace), sys.executable, "-m", "processor", "worker"]
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(backlog(7, 500, 50, settings.partitions, time.time_ns() // 1_000_000 - HOUR_MS))
        with log.open("wb") as into:
            variables = environment(settings, "w", ops_address=free_address())
            worker = await asyncio.create_subprocess_exec(
                *command, env=variables, cwd=ROOT, stdout=into, stderr=into, start_new_session=True
            )
        try:
            await stage.until_consumed(STARTED_S)
            (first, *_) = trace.read_text("utf-8", "replace").split()
            os.kill(int(first), signal.SIGTERM)
            assert await asyncio.wait_for(worker.wait(), STARTED_S) == 0
        except (AssertionError, TimeoutError) as error:
            error.add_note(log.read_text())
            raise
        finally:
            if worker.returncode is None:
                os.killpg(worker.pid, signal.SIGKILL)  # what is traced would go on without its tracer
                await worker.wait()
    told = trace.read_text("utf-8", "replace")
    asked = set(re.findall(r"^\d+ +(\w+)\(", told, re.MULTILINE))
    assert {"execve", "epoll_wait", "connect", "sendto"} <= asked
    assert asked - allowed_calls() == set()
    families = set(re.findall(r"socket\((AF_\w+)", told))
    assert families <= set(values("RestrictAddressFamilies")[0].split())
    assert re.findall(r"m(?:map|protect)\(.*PROT_WRITE\|PROT_EXEC", told) == []  # MemoryDenyWriteExecute
