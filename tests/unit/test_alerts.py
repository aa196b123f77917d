"""Alerts, runbooks and dashboard: each asks for metrics that there are, and each alert has a page."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from processor.ops.events import EVENTS
from processor.ops.metrics import PROCESS, catalogue
from processor.settings import ENV_PREFIX, Settings
from processor.topics import INPUTS
from tests.deploy.tools import needs, path_of

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"


def rules(name: str = "alerts.yml") -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def series() -> set[str]:
    """Give the names that a scrape can have."""
    names = {entry.name for entry in PROCESS}
    for entry in catalogue():
        histogram = {f"{entry.name}_{part}" for part in ("bucket", "sum", "count")}
        names |= histogram if entry.kind == "histogram" else {entry.name}
    return names


def asked(query: str) -> set[str]:
    return set(re.findall(r"\b(?:janela|process)_\w+", query))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_metrics_that_there_are_and_has_a_runbook_of_its_name(rule: dict[str, Any]) -> None:
    assert asked(rule["expr"]) <= series()
    name = "-".join(re.findall(r"[A-Z][a-z]+", rule["alert"].removeprefix("Janela"))).lower()
    assert rule["annotations"]["runbook"] == f"deploy/runbooks/{name}.md"
    page = (DEPLOY.parent / rule["annotations"]["runbook"]).read_text("utf-8")
    assert page.startswith(f"# {rule['alert']}: ")
    assert re.findall(r"^\*\*(What it means|Look|Do)\.\*\*", page, re.MULTILINE) == ["What it means", "Look", "Do"]
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_no_runbook_is_without_an_alert() -> None:
    pages = {f"deploy/runbooks/{page.name}" for page in (DEPLOY / "runbooks").iterdir()}
    assert pages == {rule["annotations"]["runbook"] for rule in rules()}


def test_a_runbook_names_metrics_that_there_are() -> None:
    names = {entry.name for entry in (*catalogue(), *PROCESS)}
    for page in (DEPLOY / "runbooks").iterdir():
        assert asked(page.read_text("utf-8")) <= names, page.name


def named_events(text: str) -> set[str]:
    """Give what a page calls as a log line is called: two words with a dot between them, and no topic's."""
    return set(re.findall(r"`([a-z]+\.[a-z-]+)`", text)) - set(INPUTS)


def test_a_log_line_of_any_kind_is_found_by_its_name_and_so_is_one_that_there_is_not() -> None:
    assert named_events("".join(f"`{name}`, " for name in EVENTS)) == EVENTS.keys()
    assert named_events("`clock.of`, `strem.assigned`, `messages.inbound`") == {"clock.of", "strem.assigned"}


def test_a_runbook_names_log_lines_pages_and_settings_that_there_are() -> None:
    for page in (DEPLOY / "runbooks").iterdir():
        text = page.read_text("utf-8")
        assert named_events(text) <= EVENTS.keys(), page.name
        assert [name for name in re.findall(r"\b([a-z-]+\.md)", text) if not _is_there(name)] == [], page.name
        settings = {name.lower() for name in re.findall(rf"`{ENV_PREFIX}([A-Z_]+)", text)}
        assert settings <= Settings.model_fields.keys(), page.name


def _is_there(page: str) -> bool:
    return (DEPLOY / "runbooks" / page).is_file() or (DEPLOY.parent / "docs" / page).is_file()


def test_a_rule_that_is_recorded_asks_for_metrics_that_there_are_and_is_tested() -> None:
    tested = (PROMETHEUS / "alerts_test.yml").read_text("utf-8")
    for rule in rules("rules.yml"):
        assert asked(rule["expr"])
        assert asked(rule["expr"]) <= series()
        assert f"expr: {rule['record']}" in tested


def test_the_dashboard_asks_for_every_metric_and_no_other() -> None:
    board = json.loads((DEPLOY / "grafana/janela.json").read_text("utf-8"))
    found = {name for panel in board["panels"] for target in panel["targets"] for name in asked(target["expr"])}
    assert found <= series()
    assert {name.removesuffix("_bucket") for name in found} == {entry.name for entry in (*catalogue(), *PROCESS)}


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    alerts = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


@needs("promtool", unchecked="the rules by Prometheus itself")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "rules.yml", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_prometheus_itself_takes_and_fires_them(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [str(path_of("promtool")), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
