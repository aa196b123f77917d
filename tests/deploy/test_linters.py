"""What other people's linters say of the Dockerfile, of the compose file and of the CI file; what CI runs; the SBOM."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.tools import DEPLOY, ROOT, hold, needs, passed, ran
from tests.sim.history import LIVE
from tests.tidy import checks

DOCKERFILE = DEPLOY / "docker/Dockerfile"
COMPOSE = DEPLOY / "compose/compose.yaml"
WORKFLOW = ROOT / ".github/workflows/ci.yml"


@needs("hadolint", unchecked="the Dockerfile by a linter")
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    passed("hadolint", "--failure-threshold", "style", DOCKERFILE)


@needs("hadolint", unchecked="the Dockerfile by a linter")
def test_hadolint_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(re.sub(r"^WORKDIR .*$", "WORKDIR src", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE))
    done = ran("hadolint", worse)
    assert done.returncode != 0
    assert "DL3000" in done.stdout


@needs("docker-compose", unchecked="the compose file by Docker Compose")
def test_docker_compose_reads_the_compose_file_as_it_is_meant() -> None:
    read = json.loads(passed("docker-compose", "-f", COMPOSE, "config", "--format", "json"))
    written = yaml.safe_load(COMPOSE.read_text("utf-8"))
    assert read["services"].keys() == written["services"].keys()
    for name, service in read["services"].items():
        assert service.get("image") == written["services"][name]["image"]
        mounted = [each["source"] for each in service.get("volumes", []) if each["type"] == "bind"]
        assert [source for source in mounted if not Path(source).exists()] == []
    assert read["services"]["worker-1"]["stop_grace_period"] == written["services"]["worker-1"]["stop_grace_period"]


def test_every_action_is_pinned_by_its_commit_and_says_its_version() -> None:
    used = [line.strip() for line in WORKFLOW.read_text("utf-8").splitlines() if "uses:" in line]
    assert len(used) >= 4
    pinned = re.compile(r"- uses: [\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
    assert [line for line in used if not pinned.fullmatch(line)] == []


def test_a_workflow_may_read_the_repository_and_nothing_more() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_every_target_that_the_workflow_makes_is_there() -> None:
    made = set(re.findall(r"run: make ([\w-]+)", WORKFLOW.read_text("utf-8")))
    assert made
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert made <= targets


@needs("actionlint", unchecked="the CI file by a linter")
def test_actionlint_finds_nothing_in_the_workflow() -> None:
    passed("actionlint", WORKFLOW)


def test_what_takes_too_long_for_each_push_is_run_once_a_week() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    weekly = [job for job in workflow["jobs"].values() if job.get("if") == "github.event_name == 'schedule'"]
    assert [job["steps"][-1] for job in weekly] == [{"run": "make test-mutants"}]
    ((minute, hour, *days, weekday),) = (each["cron"].split() for each in workflow[True]["schedule"])  # `on` is true
    assert (minute.isdigit(), hour.isdigit(), days, weekday.isdigit()) == (True, True, ["*", "*"], True)


@pytest.mark.parametrize("given", ["", "7"])
def test_ci_plays_histories_of_another_seed_each_time_and_says_which(tmp_path: Path, given: str) -> None:
    for tool in ("make", "promtool", "strace"):
        (tmp_path / tool).write_text('#!/bin/sh\necho "$* from ${SEED:-no seed}"\n')
        (tmp_path / tool).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "SEED"}
    environment |= {"PATH": f"{tmp_path}{os.pathsep}{environment['PATH']}"} | ({"SEED": given} if given else {})

    def seed() -> int:
        ran = subprocess.run(["bash", ROOT / ".ci/run"], env=environment, capture_output=True, text=True, check=True)
        said, played, *more = ran.stdout.splitlines()
        (number,) = re.findall(r"SEED=(\d+)", said)
        assert played == f"test from {number}"
        assert [each.partition(" from ")[0] for each in more] == ["test-rest", "test-chaos MINUTES=0"]
        return int(number)

    seeds = {seed() for _ in range(4)}
    assert len(seeds) > 1 if not given else seeds == {7}
    assert all(0 < each < LIVE for each in seeds)


@pytest.mark.parametrize(("told", "outcome"), [("", pytest.skip.Exception), ("required", pytest.fail.Exception)])
def test_a_test_whose_tool_is_missing_is_left_out_or_fails_where_tools_are_required(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, told: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("TEST_TOOLS", told)
    hold(request.node)
    request.node.add_marker(needs("no-such-tool", unchecked="nothing"))
    with pytest.raises(outcome, match=r"no no-such-tool .*; not checked: nothing"):
        hold(request.node)


def test_the_target_that_checks_all_of_it_requires_the_tools() -> None:
    command = ["make", "--dry-run", "--old-file=setup", "--old-file=.janela/tools/.locked", "check-deploy"]
    variables = {name: value for name, value in os.environ.items() if name not in ("TEST_TOOLS", "MAKEFLAGS")}
    ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert "TEST_TOOLS=required " in ran.stdout


@needs("cyclonedx-py", unchecked="that the SBOM lists what the image holds")
def test_the_sbom_lists_what_the_image_holds_with_its_hashes(tmp_path: Path) -> None:
    lock = DEPLOY / "docker/runtime.lock"
    output = tmp_path / "bom.json"
    passed("cyclonedx-py", "requirements", lock, "--pyproject", "pyproject.toml", "--output-file", output)
    bom = json.loads(output.read_text("utf-8"))
    assert bom["bomFormat"] == "CycloneDX"
    pins = {name: version.rstrip("; ") for name, version in checks.pins(lock.read_text("utf-8")).items()}
    assert {each["name"]: each["version"] for each in bom["components"]} == pins
    assert all(each["externalReferences"][0]["hashes"] for each in bom["components"])
    assert bom["metadata"]["component"]["name"] == "janela-stream"


WHOLE = sorted(path for path in DEPLOY.rglob("*.y*ml") if "templates" not in path.parts)
"""What is YAML as it stands; templates are made YAML by Helm, in test_chart.py."""


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_yaml_file_can_be_read(path: Path) -> None:
    assert [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]
