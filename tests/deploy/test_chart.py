"""The chart: what Helm makes of it is what Kubernetes takes, and what a worker needs."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft7Validator

from processor import __version__
from processor.settings import ENV_PREFIX, Settings
from tests.certificates import Authority
from tests.deploy.tools import DEPLOY, DRAIN_SECONDS_MAX, needs, needs_types, passed, ran, unknown_fields

CHART: Final = DEPLOY / "helm/janela"
EXAMPLES: Final = sorted((CHART / "examples").glob("*.yaml"))
VERSIONS: Final = ("1.27", "1.34", "1.37")
"""Of Kubernetes: the oldest that the chart takes, and two later ones."""
CUSTOM: Final = {"ServiceMonitor"}

Resources = dict[str, list[dict[str, Any]]]
helm = needs("helm", unchecked="what Helm makes of the chart")


def rendered(*more: str | Path) -> Resources:
    """Render the chart, and give its resources by kind."""
    text = passed("helm", "template", "janela", CHART, "--kube-version", "1.34.0", *more)
    by_kind: Resources = defaultdict(list)
    for document in yaml.safe_load_all(text):
        by_kind[document["kind"]].append(document)
    return by_kind


@pytest.fixture(scope="module")
def plain() -> Resources:
    """Give what comes of the values as they are."""
    return rendered()


@pytest.fixture(scope="module")
def full() -> Resources:
    """Give what comes of the example, with what it leaves off."""
    more = ("secretRef=more", "topics.apply=true", "topics.username=operator", "topics.passwordSecret.name=operator")
    return rendered("-f", CHART / "examples/production.yaml", "--set", ",".join(more))


def worker(resources: Resources) -> dict[str, Any]:
    """Give the pod that a worker runs in."""
    (stateful_set,) = resources["StatefulSet"]
    pod: dict[str, Any] = stateful_set["spec"]["template"]["spec"]
    return pod


# ------------------------------------------------------------------------------------------------ without a tool


def test_the_values_as_they_are_and_the_examples_are_what_the_schema_allows() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert EXAMPLES
    for example in [{}, *(yaml.safe_load(path.read_text("utf-8")) for path in EXAMPLES)]:
        assert list(Draft7Validator(schema).iter_errors(values | example)) == []


def test_every_value_is_in_the_schema_and_every_one_of_the_schema_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert schema["properties"].keys() - values.keys() == {"global"}  # Helm's own
    assert values.keys() <= schema["properties"].keys()


def test_the_chart_is_of_the_version_that_the_package_is_of() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


# ------------------------------------------------------------------------------------------------------ with Helm


@helm
def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    passed("helm", "lint", "--strict", "--kube-version", "1.34.0", CHART)
    for path in EXAMPLES:
        passed("helm", "lint", "--strict", "--kube-version", "1.34.0", CHART, "-f", path)


@helm
@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("settings.partitions=0", "/settings/partitions"),
        ("settings.partitons=12", "partitons"),
        ("settings.clock=lunar", "/settings/clock"),
        ("settings.sasl_password=x", "sasl_password"),
        ("settings.instance_id=x", "instance_id"),
        ("terminationGracePeriodSeconds=5", "/terminationGracePeriodSeconds"),
        ("image.tag=latest", "/image/tag"),
        ("ops.port=80", "/ops/port"),
        ("replicas=0", "/replicas"),
        ("replica=3", "replica"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_before_anything_is_installed(value: str, told: str) -> None:
    done = ran("helm", "template", "janela", CHART, "--kube-version", "1.34.0", "--set", value)
    assert done.returncode != 0
    assert told in done.stderr


EGRESS: Final = "networkPolicy.egress[0]."
TOKENS: Final = "settings.oauth_token_url=https://idp.example/token"
LEAST: Final = DRAIN_SECONDS_MAX + 5


@helm
@pytest.mark.parametrize(
    ("values", "told"),
    [
        (f"terminationGracePeriodSeconds={LEAST - 1:g}", f"must be at least {LEAST:g}"),
        ("settings.transaction_timeout_ms=60000", "must be at least 53"),
        ("settings.bootstrap_servers=kafka:9092\\,kafka:9094", "port 9094: add it to networkPolicy.kafkaPorts"),
        (TOKENS, "port 443 there: add a rule for it to networkPolicy.egress"),
        (f"{TOKENS},{EGRESS}ports[0].port=8443", "port 443 there"),
        (f"{TOKENS},{EGRESS}ports[0].port=443,{EGRESS}ports[0].protocol=UDP", "port 443 there"),
        (f"{TOKENS},networkPolicy.kafkaPorts={{9092,443}},networkPolicy.kafkaTo[0].podSelector.a=b", "port 443 there"),
    ],
)
def test_values_that_contradict_each_other_are_refused_before_anything_is_installed(values: str, told: str) -> None:
    done = ran("helm", "template", "janela", CHART, "--kube-version", "1.34.0", "--set", values)
    assert done.returncode != 0
    assert told in done.stderr


@helm
@pytest.mark.parametrize(
    "values",
    [
        f"terminationGracePeriodSeconds={LEAST:g}",
        "settings.transaction_timeout_ms=60000,terminationGracePeriodSeconds=53",
        "settings.bootstrap_servers=a:9092\\, b:9094,networkPolicy.kafkaPorts={9092,9094}",
        f"settings.bootstrap_servers=kafka:9094,{EGRESS}ports[0].port=9094",
        "settings.bootstrap_servers=kafka:9094,networkPolicy.enabled=false",
        f"{TOKENS},networkPolicy.enabled=false",
        f"{TOKENS},{EGRESS}ports[0].port=443",
        f"{TOKENS},{EGRESS}ports[0].port=400,{EGRESS}ports[0].endPort=500",
        f"{TOKENS},{EGRESS}to[0].ipBlock.cidr=192.0.2.0/24",
        f"{TOKENS},networkPolicy.kafkaPorts={{9092,443}}",
        f"settings.oauth_token_url=https://idp.example:8443/token,{EGRESS}ports[0].port=8443",
        "settings.oauth_token_url=http://127.0.0.1:8080/token",
    ],
)
def test_values_that_go_together_are_rendered(values: str) -> None:
    assert rendered("--set", values)["StatefulSet"]


@helm
@needs("kubernetes-validate", unchecked="the chart's resources against the schemas of Kubernetes")
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_of_what_is_rendered(version: str, full: Resources, tmp_path: Path) -> None:
    documents = [document for kind, group in full.items() if kind not in CUSTOM for document in group]
    assert len(documents) == 7
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    passed("kubernetes-validate", "--strict", "-k", version, path)


@pytest.fixture
def mounted(full: Resources, tmp_path: Path) -> dict[str, Path]:
    """Give a file for each that the chart mounts."""
    (policy,) = full["ConfigMap"]
    (tmp_path / "policy.toml").write_text(policy["data"]["policy.toml"])
    return {
        "/etc/janela/policy/policy.toml": tmp_path / "policy.toml",
        "/etc/janela/tls/ca.crt": Authority(tmp_path).certificate,
    }


def loaded(
    pod: dict[str, Any], mounted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, dict[str, Any]]:
    """Give the settings of a pod, and where each variable without a value comes from."""
    (container,) = pod["containers"]
    monkeypatch.chdir(mounted["/etc/janela/tls/ca.crt"].parent)
    for each in container["env"]:
        assert each["name"].removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        value = each.get("value", "from-elsewhere")
        monkeypatch.setenv(each["name"], str(mounted.get(value, value)))
    return Settings.load(), {each["name"]: each["valueFrom"] for each in container["env"] if "valueFrom" in each}


def secret(name: str) -> dict[str, Any]:
    """Give where a password comes from."""
    return {"secretKeyRef": {"name": name, "key": "password"}}


@helm
def test_a_worker_s_variables_are_settings_with_values_that_are_allowed(
    full: Resources, mounted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, elsewhere = loaded(worker(full), mounted, monkeypatch)
    assert elsewhere == {
        "JANELA_INSTANCE_ID": {"fieldRef": {"fieldPath": "metadata.name"}},
        "JANELA_SASL_PASSWORD": secret("janela-worker"),
    }
    assert (settings.security_protocol, settings.sasl_username) == ("SASL_SSL", "janela-worker")
    assert settings.group_instance_id == "from-elsewhere"
    assert settings.buffer_records_max == 1_000_000  # which a template may easily write as 1e+06
    assert settings.dead_letter_flood_share == 0.25
    assert settings.emit_accepted is True
    assert settings.policy().closed_retention_ms == 96 * 3_600_000


@helm
def test_topics_are_created_with_the_settings_of_a_worker_by_a_user_who_may(
    full: Resources, mounted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = full["Job"]
    settings, elsewhere = loaded(job["spec"]["template"]["spec"], mounted, monkeypatch)
    assert (settings.sasl_username, elsewhere) == ("operator", {"JANELA_SASL_PASSWORD": secret("operator")})
    assert (settings.topic_prefix, settings.partitions) == ("acme.", 24)
    assert settings.connection is not None


@helm
def test_topics_are_created_by_the_worker_s_user_where_no_other_is_named(
    mounted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = rendered("-f", CHART / "examples/production.yaml", "--set", "topics.apply=true")["Job"]
    settings, elsewhere = loaded(job["spec"]["template"]["spec"], mounted, monkeypatch)
    assert (settings.sasl_username, elsewhere) == ("janela-worker", {"JANELA_SASL_PASSWORD": secret("janela-worker")})


@helm
def test_a_pod_s_name_is_its_worker_s_instance_id(plain: Resources) -> None:
    (container,) = worker(plain)["containers"]
    (given,) = [each for each in container["env"] if each["name"] == "JANELA_INSTANCE_ID"]
    assert given["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    (stateful_set,) = plain["StatefulSet"]
    (service,) = plain["Service"]
    assert stateful_set["spec"]["serviceName"] == service["metadata"]["name"]


@helm
def test_a_worker_has_more_time_to_stop_than_it_takes(plain: Resources) -> None:
    assert worker(plain)["terminationGracePeriodSeconds"] > DRAIN_SECONDS_MAX


@helm
def test_probes_ask_for_what_a_worker_answers_where_it_listens(plain: Resources) -> None:
    (container,) = worker(plain)["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    (port,) = container["ports"]
    assert {get["port"] for get in probes.values()} == {port["name"]}
    address = next(each["value"] for each in container["env"] if each["name"] == "JANELA_OPS_ADDRESS")
    assert address == f"0.0.0.0:{port['containerPort']}"


@helm
@pytest.mark.parametrize("wait_s", [None, 0, 3600])
def test_a_start_may_take_longer_than_a_worker_waits_for_its_broker(wait_s: int | None) -> None:
    given = () if wait_s is None else ("--set", f"settings.broker_wait_seconds={wait_s}")
    (container,) = worker(rendered(*given))["containers"]
    probe = container["startupProbe"]
    waits_s = Settings().broker_wait_seconds if wait_s is None else wait_s
    assert 90 <= probe["periodSeconds"] * probe["failureThreshold"] - waits_s < 92


@helm
def test_no_container_is_root_or_can_write_on_its_root_or_become_more_than_it_is(full: Resources) -> None:
    pods = [each["spec"]["template"]["spec"] for kind in ("StatefulSet", "Job") for each in full[kind]]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
            assert writable == ["/tmp"]


@helm
def test_a_service_of_the_same_name_gives_a_worker_no_variables(plain: Resources) -> None:
    assert worker(plain)["enableServiceLinks"] is False


@helm
def test_everything_that_selects_workers_selects_their_pods_and_no_others(full: Resources) -> None:
    (stateful_set,), (job,) = full["StatefulSet"], full["Job"]
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    selectors = [
        stateful_set["spec"]["selector"]["matchLabels"],
        full["Service"][0]["spec"]["selector"],
        full["PodDisruptionBudget"][0]["spec"]["selector"]["matchLabels"],
        full["NetworkPolicy"][0]["spec"]["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in worker(full)["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 6
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()


@helm
def test_workers_are_spread_over_zones_and_machines_and_one_at_a_time_may_be_moved(full: Resources) -> None:
    spread = {each["topologyKey"]: each["whenUnsatisfiable"] for each in worker(full)["topologySpreadConstraints"]}
    assert spread == {"topology.kubernetes.io/zone": "DoNotSchedule", "kubernetes.io/hostname": "ScheduleAnyway"}
    assert full["PodDisruptionBudget"][0]["spec"]["maxUnavailable"] == 1


@helm
def test_the_network_lets_a_worker_reach_names_kafka_and_what_is_named_and_metrics_be_asked_for(
    full: Resources,
) -> None:
    spec = full["NetworkPolicy"][0]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = spec["ingress"]
    assert [port["port"] for port in ingress["ports"]] == ["ops"]
    ports = [[port["port"] for port in rule["ports"]] for rule in spec["egress"]]
    assert ports == [[53, 53], [9093], [4318]]
    assert spec["egress"][1]["to"] == [{"podSelector": {"matchLabels": {"strimzi.io/cluster": "kafka"}}}]


@helm
def test_secrets_come_from_a_secret_and_stand_in_nothing_that_is_rendered(full: Resources) -> None:
    (container,) = worker(full)["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "more"}}]
    assert full["Secret"] == []


@helm
def test_where_an_autoscaler_says_how_many_workers_the_chart_says_nothing() -> None:
    (stateful_set,) = rendered("--set", "replicas=null")["StatefulSet"]
    assert "replicas" not in stateful_set["spec"]


@helm
def test_other_settings_or_another_policy_start_workers_anew(plain: Resources) -> None:
    def mark(resources: Resources) -> str:
        (stateful_set,) = resources["StatefulSet"]
        found: str = stateful_set["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
        return found

    assert mark(rendered()) == mark(plain)
    marks = {mark(plain), mark(rendered("--set", "settings.clock=event")), mark(rendered("--set", "policy=a = 1"))}
    assert len(marks) == 3


@helm
@needs_types
def test_the_prometheus_operator_knows_every_field_of_the_service_monitor(full: Resources) -> None:
    (monitor,) = full["ServiceMonitor"]
    assert unknown_fields(monitor) == []
    # by the alerts' job, and by a port and labels that the service has
    (service,) = full["Service"]
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "janela"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [end["port"] for end in monitor["spec"]["endpoints"]] == [port["name"] for port in service["spec"]["ports"]]
