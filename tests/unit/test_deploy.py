"""What `deploy/` says agrees with the processor, as far as that shows without an engine to run it."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from processor.settings import ENV_PREFIX, Settings
from tests.deploy.tools import DRAIN_SECONDS_MAX

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
COMPOSE = ROOT / "deploy/compose/compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Give the services of the compose file; YAML has merged what they share."""
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return services


@pytest.fixture(scope="module")
def ours(services: dict[str, Any]) -> dict[str, Any]:
    """Give those that run our image."""
    return {name: service for name, service in services.items() if "build" in service}


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Give the Dockerfile's instructions in order: the word, and the rest on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line.strip()]


def is_pinned(image: str) -> bool:
    """Say whether an image's name has a full version or a digest."""
    return bool(re.search(r":v?\d+\.\d+\.\d+$|@sha256:[0-9a-f]{64}$", image))


@pytest.mark.parametrize("image", ["apache/kafka:4.3.1", "prom/prometheus:v3.5.0", "kafka@sha256:" + "0" * 64])
def test_an_image_with_a_full_version_or_a_digest_is_pinned(image: str) -> None:
    assert is_pinned(image)


@pytest.mark.parametrize("image", ["apache/kafka", "apache/kafka:latest", "apache/kafka:4", "kafka:4.3.1-rc"])
def test_an_image_without_them_is_not_pinned(image: str) -> None:
    assert not is_pinned(image)


def test_every_image_of_the_compose_file_is_pinned(services: dict[str, Any]) -> None:
    assert [service["image"] for service in services.values() if not is_pinned(service["image"])] == []


def test_our_image_bears_the_version_of_the_package(ours: dict[str, Any]) -> None:
    from processor import __version__

    assert {service["image"] for service in ours.values()} == {f"janela-stream:{__version__}"}


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize("name", ["topics", "worker-1", "worker-2"])
def test_a_service_s_variables_are_settings_with_values_that_are_allowed(
    name: str, ours: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables: dict[str, str] = ours[name]["environment"]
    for variable, value in variables.items():
        assert variable.removeprefix(ENV_PREFIX).lower() in Settings.model_fields, variable
        monkeypatch.setenv(variable, value)
    settings = Settings.load()
    assert settings.bootstrap_servers == "kafka:19092"


def test_the_image_sets_only_what_is_a_setting(instructions: list[tuple[str, str]]) -> None:
    text = " ".join(rest for word, rest in instructions if word == "ENV")
    variables = re.findall(rf"\b{ENV_PREFIX}(\w+)=", text)
    assert variables
    assert [name for name in variables if name.lower() not in Settings.model_fields] == []


def test_each_worker_has_an_instance_id_of_its_own(ours: dict[str, Any]) -> None:
    workers = [service for service in ours.values() if service["command"] == ["worker"]]
    assert len(workers) == 2
    assert len({worker["environment"]["JANELA_INSTANCE_ID"] for worker in workers}) == 2


def test_workers_differ_in_nothing_but_their_instance_id(ours: dict[str, Any]) -> None:
    def shared(name: str) -> str:
        service = json.loads(json.dumps(ours[name]))
        del service["environment"]["JANELA_INSTANCE_ID"]
        return json.dumps(service, sort_keys=True)

    assert shared("worker-1") == shared("worker-2")


def test_a_worker_is_given_more_time_to_stop_than_it_takes(ours: dict[str, Any]) -> None:
    for name in ("worker-1", "worker-2"):
        assert int(ours[name]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS_MAX


def test_how_long_a_stop_may_take_is_what_the_page_on_operations_says() -> None:
    text = " ".join((ROOT / "docs/operations.md").read_text("utf-8").split())
    assert f"four fifths of `JANELA_TRANSACTION_TIMEOUT_MS` ({DRAIN_SECONDS_MAX:g} s)" in text


def test_workers_start_when_kafka_answers_and_its_topics_are_there(services: dict[str, Any]) -> None:
    assert services["kafka"]["healthcheck"]["test"][0] == "CMD"
    assert services["topics"]["command"] == ["topics", "apply"]
    assert services["topics"]["restart"] == "no"
    for name in ("worker-1", "worker-2"):
        conditions = {needed: on["condition"] for needed, on in services[name]["depends_on"].items()}
        assert conditions == {"kafka": "service_healthy", "topics": "service_completed_successfully"}


def test_our_containers_can_write_nowhere_but_in_a_small_folder(ours: dict[str, Any]) -> None:
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
        assert "volumes" not in service


def test_what_is_published_is_reached_from_this_machine_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_scrapes_every_worker_and_reads_every_rule_file(
    services: dict[str, Any], ours: dict[str, Any]
) -> None:
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    (scrape,) = configuration["scrape_configs"]
    workers = {name: service for name, service in ours.items() if service["command"] == ["worker"]}
    ports = {name: service["environment"]["JANELA_OPS_ADDRESS"].rpartition(":")[2] for name, service in workers.items()}
    assert sorted(scrape["static_configs"][0]["targets"]) == sorted(f"{name}:{port}" for name, port in ports.items())
    mounted = [volume.split(":")[0] for volume in services["prometheus"]["volumes"]]
    assert {f"../prometheus/{name}" for name in ["prometheus.yml", *configuration["rule_files"]]} <= set(mounted)


def test_the_operator_that_finds_the_monitor_of_the_example_finds_the_rules_too() -> None:
    example = yaml.safe_load((ROOT / "deploy/helm/janela/examples/production.yaml").read_text("utf-8"))
    rule = yaml.safe_load((ROOT / "deploy/prometheus/prometheusrule.yaml").read_text("utf-8"))
    assert example["serviceMonitor"]["labels"]
    assert example["serviceMonitor"]["labels"].items() <= rule["metadata"]["labels"].items()


def test_grafana_is_given_its_prometheus_and_the_dashboard(services: dict[str, Any]) -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text("utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    (provider,) = yaml.safe_load((provisioning / "dashboards/janela.yaml").read_text("utf-8"))["providers"]
    targets = dict(volume.rsplit(":", 1)[0].split(":") for volume in services["grafana"]["volumes"])
    assert targets["../grafana/provisioning"] == "/etc/grafana/provisioning"
    assert targets["../grafana/janela.json"] == f"{provider['options']['path']}/janela.json"


def test_what_is_mounted_is_there_and_can_not_be_written(services: dict[str, Any]) -> None:
    mounts = [volume for service in services.values() for volume in service.get("volumes", []) if volume[0] == "."]
    assert mounts
    for mount in mounts:
        source, _, mode = mount.split(":")
        assert (COMPOSE.parent / source).exists()
        assert mode == "ro"


def test_the_image_runs_janela_itself_as_nobody_in_particular(instructions: list[tuple[str, str]]) -> None:
    last = dict(instructions)  # the last of each word is the one that counts
    assert json.loads(last["ENTRYPOINT"]) == ["janela"]
    assert json.loads(last["CMD"]) == ["worker"]
    user, _, group = last["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_image_installs_nothing_without_a_hash(instructions: list[tuple[str, str]]) -> None:
    commands = [command for word, rest in instructions if word == "RUN" for command in rest.split("&&")]
    installs = [command for command in commands if " install " in command]
    assert len(installs) == 3
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)


def test_what_the_image_copies_is_there_and_not_ignored(instructions: list[tuple[str, str]]) -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copies = [rest.split()[:-1] for word, rest in instructions if word == "COPY" and not rest.startswith("--from")]
    sources = [source for names in copies for source in names]
    assert len(sources) >= 6
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in let_in), source


def test_the_wheel_carries_the_contract_and_the_list_of_jars(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    schemas = {f"processor/{path.relative_to(ROOT)}" for path in (ROOT / "schemas").rglob("*.json")}
    assert schemas
    assert schemas <= names
    assert {"processor/embedded/jars.lock", "processor/py.typed"} <= names
    assert [name for name in names if not name.startswith(("processor/", "janela_stream-"))] == []


def test_the_base_image_is_of_a_python_that_the_package_runs_on() -> None:
    tag = re.search(r"^ARG PYTHON_TAG=(\d+)\.(\d+)-slim", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    assert tag is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Programming Language :: Python :: {tag[1]}.{tag[2]}" in project["classifiers"]
