"""The scaler: it asks for the lag of what workers read, never takes the last one, and asks for no idle ones."""

from typing import Any, Final

import pytest
import yaml

from processor.settings import Settings
from processor.topics import INPUTS
from tests.deploy.tools import DEPLOY, needs, needs_types, passed, unknown_fields

LATER: Final = {"ScaledObject.spec.fallback.behavior: unknown"}
"""What the types for Pythons before 3.14 (of KEDA 2.16) do not know; it came with 2.17 (kedacore/keda#6464)."""


@pytest.fixture(scope="module")
def scaled() -> dict[str, Any]:
    """Give the ScaledObject."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "keda/scaledobject.yaml").read_text("utf-8"))
    return document


def test_at_least_one_worker_runs_and_at_most_one_for_each_partition(scaled: dict[str, Any]) -> None:
    spec = scaled["spec"]
    assert spec["minReplicaCount"] >= 1  # timers
    assert "idleReplicaCount" not in spec
    assert spec["maxReplicaCount"] == Settings().partitions


def test_where_the_lag_can_not_be_read_no_worker_is_taken_away(scaled: dict[str, Any]) -> None:
    fallback = scaled["spec"]["fallback"]
    assert fallback["behavior"] == "currentReplicasIfHigher"
    assert fallback["replicas"] >= 1


def test_it_asks_for_the_lag_of_a_worker_s_group_on_each_input(scaled: dict[str, Any]) -> None:
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    assert sorted(trigger["topic"] for trigger in triggers) == sorted(INPUTS)
    assert {trigger["consumerGroup"] for trigger in triggers} == {Settings().app_id}
    for trigger in triggers:
        major, minor, _ = map(int, trigger["version"].split("."))
        assert (major, minor) >= (2, 1)  # KIP-896
        assert all(isinstance(value, str) for value in trigger.values())  # KEDA takes nothing else


def test_it_takes_workers_away_more_slowly_than_it_brings_them(scaled: dict[str, Any]) -> None:
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 20 * up["stabilizationWindowSeconds"]
    (policy,) = down["policies"]
    assert policy["value"] == 1
    assert policy["periodSeconds"] >= 300


@needs_types
def test_keda_knows_every_field(scaled: dict[str, Any]) -> None:
    assert set(unknown_fields(scaled)) <= LATER
    misspelt = scaled | {"spec": scaled["spec"] | {"minReplicas": 1}}
    assert set(unknown_fields(misspelt)) - LATER == {"ScaledObject.spec.minReplicas: unknown"}


@needs("helm", unchecked="that the scaler's target is what the chart makes")
def test_what_it_scales_is_what_the_chart_makes(scaled: dict[str, Any]) -> None:
    target = scaled["spec"]["scaleTargetRef"]
    rendered = passed("helm", "template", "janela", DEPLOY / "helm/janela", "--kube-version", "1.34.0")
    made = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(rendered)]
    assert (target["apiVersion"], target["kind"], target["name"]) in made


@needs_types
def test_the_prometheus_operator_knows_every_field_of_the_rules() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus/prometheusrule.yaml").read_text("utf-8"))
    assert unknown_fields(rules) == []
