"""A whole worker, and every verb, on a cluster that denies by default: with the generated rights and not one more.

Each way in that Kafka has; each right taken away; passwords, tokens and certificates that are no good.
"""

import asyncio
import base64
import json
import re
import secrets
import shlex
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from processor import acls, rights, topics
from processor.audit.verdict import OUTPUTS
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED, EXIT_REFUSED
from processor.stream.preflight import refusals
from tests.certificates import Authority
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import ROOT, Stage, Worker, environment, patience
from tests.secured import SESSION_MS, WORKER, Cluster, secured_kafka, token_of

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2
READY_S = 90
SAID_WITHIN_S = 10
"""How soon a worker that may not run must say so, on a machine that has a core for it."""

COMMANDS = ("-m", "processor")
NOBODY: dict[str, Any] = {"sasl_username": "", "sasl_password": "", "sasl_mechanism": "SCRAM-SHA-512"}
"""Takes away the login of whoever puts the stage together."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with secured_kafka(tmp_path_factory.mktemp("authority")) as cluster:
        yield cluster


@pytest.fixture
def settings(cluster: Cluster, topic_prefix: str) -> Settings:
    """Give the settings of an administrator, under a prefix of the test's own."""
    return cluster.as_admin(cluster.settings(topic_prefix, cluster.by_password(WORKER)))


async def ran(settings: Settings, *arguments: str, **changed: Any) -> tuple[int | None, str, str]:
    """Run a verb as another user; give exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *COMMANDS, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(settings, "v", **changed) | {"PYTHONPATH": str(ROOT)},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60 * patience())
    return process.returncode, out.decode(), err.decode()


async def done(settings: Settings, *arguments: str, **changed: Any) -> str:
    """Run a verb that must go well, and give what it prints."""
    code, out, err = await ran(settings, *arguments, **changed)
    assert code == 0, err
    return out


def records(seed: int = 1) -> Any:
    return backlog(seed, 300, 12, PARTITIONS, time.time_ns() // 1_000_000 - HOUR_MS)


# ------------------------------------------------------------------------------------------------- the ways in


@asynccontextmanager
async def token_endpoint(client_id: str, secret: str) -> AsyncIterator[str]:
    """Give the URL of an endpoint that gives a worker's token to one client; it lives in this process."""

    async def give(request: web.Request) -> web.Response:
        form = await request.post()
        if (
            base64.b64decode(request.headers["Authorization"].removeprefix("Basic "))
            != f"{client_id}:{secret}".encode()
        ):
            return web.json_response({"error": "invalid_client"}, status=401)
        assert form["grant_type"] == "client_credentials"
        return web.json_response({"access_token": token_of(WORKER), "expires_in": 300, "token_type": "Bearer"})

    app = web.Application()
    app.router.add_post("/token", give)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def access(cluster: Cluster, way: str, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """Give the settings of a worker that comes in one of the ways."""
    if way == "certificate":
        yield NOBODY | cluster.by_certificate(WORKER)
    elif way == "token file":
        (folder / "token").write_text(token_of(WORKER))
        yield NOBODY | cluster.by_token(oauth_token_file=str(folder / "token"))
    elif way == "token endpoint":
        async with token_endpoint("janela", "s3cret") as url:
            client = {"oauth_token_url": url, "oauth_client_id": "janela", "oauth_client_secret": "s3cret"}
            yield NOBODY | cluster.by_token(**client)
    else:
        yield cluster.by_password(WORKER, way)


@pytest.mark.parametrize(
    "way", ["SCRAM-SHA-512", "certificate", "SCRAM-SHA-256", "PLAIN", "token file", "token endpoint"]
)
async def test_a_worker_with_the_generated_rights_alone_does_all_its_work(
    cluster: Cluster, settings: Settings, tmp_path: Path, way: str
) -> None:
    async with Stage.open(settings, tmp_path) as stage, access(cluster, way, tmp_path) as given:
        await cluster.grant(settings, WORKER, acls.acls(settings, acls.WORKER))
        await stage.preload(records())
        worker = stage.worker("w", **given)
        await stage.until_consumed(READY_S)
        assert worker.code is None
        written = await stage.records(*OUTPUTS)
        assert {tp.topic for tp, found in written.items() if found} >= {
            stage.names["window-opened"],
            stage.names["window-closed"],
        }
        await done(settings, "verify")  # exit code 0: nothing lost, doubled or wrong


async def test_a_worker_with_a_live_clock_needs_no_right_beyond_these(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    """It asks the brokers for the time, by a transaction of its own."""
    user = f"w{secrets.token_hex(4)}"
    await cluster.grant(settings, user, acls.acls(settings, acls.WORKER))
    async with Stage.open(settings, tmp_path) as stage:
        worker = stage.worker("w", **NOBODY | cluster.by_certificate(user), clock="live")
        await stage.preload(records())
        await stage.until_consumed(READY_S)
        assert worker.code is None
        assert not any("clock.unanswered" in line for line in worker.lines())


@pytest.mark.parametrize("place", ["records-delivered:1", "offsets-sent:2"])
async def test_a_second_worker_ends_the_transaction_of_one_that_was_killed(
    cluster: Cluster, settings: Settings, tmp_path: Path, place: str
) -> None:
    """Its name is known by what it had committed, or by the brokers alone; the rights must do for both."""
    async with Stage.open(settings, tmp_path) as stage:
        await cluster.grant(settings, WORKER, acls.acls(settings, acls.WORKER))
        await stage.preload(records())
        small = cluster.by_password(WORKER) | {"batch_records_max": 20, "buffer_records_max": 40}
        first = stage.worker("a", **small, failpoint=place)
        assert await first.ended(READY_S) == -signal.SIGKILL, first.told()
        await stage.evict(first)
        second = stage.worker("b", **small)
        await stage.until_consumed(READY_S)
        assert any("open-transaction-ended" in line for line in second.lines())
        await done(settings, "verify")


async def test_sessions_that_the_brokers_end_with_their_tokens_cost_no_rebalance(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage, access(cluster, "token file", tmp_path) as given:
        await cluster.grant(settings, WORKER, acls.acls(settings, acls.WORKER))
        worker = stage.worker("w", **given)
        for seed in range(3):
            await stage.preload(records(seed))
            await stage.until_consumed(READY_S)
            await asyncio.sleep(1.5 * SESSION_MS / 1000)
        assert worker.code is None
        assert sum("stream.assigned" in line for line in worker.lines()) == 1
        assert any("Heartbeat send request failed" in line for line in worker.lines())  # a session did end


async def test_a_right_for_one_workers_transactions_alone_is_not_enough(cluster: Cluster, rightful: Settings) -> None:
    needed, user = acls.acls(rightful, acls.WORKER), f"w{secrets.token_hex(4)}"
    too_narrow = [
        acl._replace(name=f"{acl.name}w", is_prefix=False) if acl.resource == "transactional-id" else acl
        for acl in needed
    ]
    await cluster.grant(rightful, user, tuple(too_narrow))
    (line,) = await refusals(cluster.settings(rightful.topic_prefix, cluster.by_certificate(user)))
    assert line.startswith(f"error: transactional-id {rightful.app_id}-*: rights: found none, expected Write; ")


# ---------------------------------------------------------------------------------------------------- every verb


async def test_every_verb_comes_the_same_way_with_the_rights_of_its_role(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    for role in ("platform", "auditor", "operator", "replayer"):
        printed = json.loads(
            await done(settings, *"topics acls --apply --json --for".split(), role, "--principal", f"User:{role}")
        )
        assert printed["principal"] == f"User:{role}"
    operator, platform, auditor, replayer = map(cluster.by_password, ("operator", "platform", "auditor", "replayer"))
    assert "created" in await done(settings, "topics", "apply", **operator)
    await done(settings, "topics", "check", **operator)
    await done(settings, "topics", "list", **operator)
    sent = "send inbound --type text --business 15550001 --contact 5511999990001".split()
    await done(settings, *sent, **platform)
    await done(settings, *"load --rate 200 --seconds 1 --contacts 20 --processes 2".split(), **platform)
    await cluster.grant(settings, WORKER, acls.acls(settings, acls.WORKER))
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        stage.worker("w", **cluster.by_password(WORKER))
        await stage.until_consumed(READY_S)
        await cluster.grant(settings, "measurer", (*acls.acls(settings, "platform"), *acls.acls(settings, "auditor")))
        measurer = NOBODY | cluster.by_certificate("measurer")
        await done(settings, *"measure --rate 50 --seconds 2".split(), **measurer)
    watched = await done(settings, *"watch --from-beginning --limit 3 --json".split(), **auditor)
    assert len(watched.splitlines()) == 3
    await done(settings, "verify", **auditor)
    archive = str(tmp_path / "day.jsonl.zst")
    await done(settings, "archive", archive, **auditor)
    replay = ("replay", "--from-archive", archive, "--to-prefix", settings.topic_prefix, "--append")
    await done(settings, *replay, **replayer)
    code, _, err = await ran(settings, *sent, **auditor)  # who only reads is not let write
    assert code == 2
    assert len(err.splitlines()) == 1


# ------------------------------------------------------------------------------------------------ rights taken away


ALL = acls.acls(Settings(app_id="app"), acls.WORKER)


@pytest.mark.parametrize("number", range(len(ALL)), ids=[str(acl) for acl in ALL])
async def test_each_right_that_is_taken_away_is_named_at_the_start(
    cluster: Cluster, rightful: Settings, number: int
) -> None:
    """Each by a user of its own, who has all rights but this one."""
    needed = acls.acls(rightful, acls.WORKER)
    lacking, user = needed[number], f"w{secrets.token_hex(4)}"
    await cluster.grant(rightful, user, tuple(acl for acl in needed if acl != lacking))
    worker = cluster.settings(rightful.topic_prefix, cluster.by_certificate(user), app_id=rightful.app_id)
    began_s = time.monotonic()
    (line,) = await refusals(worker)
    assert time.monotonic() - began_s < SAID_WITHIN_S * patience()
    what = str(lacking).partition(" on ")[2]
    assert line.startswith(f"error: {what}: rights: found ")
    assert f", expected {lacking.operation}; kafka-acls.sh " in line
    assert f"--{lacking.resource} {lacking.name}" in line
    await cluster.grant(rightful, user, (lacking,))
    assert await rights.missing(worker) == []


@pytest.mark.parametrize("kind", ["topic", "group", "transactional-id"])
async def test_to_see_a_thing_is_not_yet_the_right_to_use_it(cluster: Cluster, rightful: Settings, kind: str) -> None:
    needed, user = acls.acls(rightful, acls.WORKER), f"w{secrets.token_hex(4)}"
    lacking = next(acl for acl in needed if acl.resource == kind)
    seen = tuple(acl._replace(operation="Describe") if acl == lacking else acl for acl in needed)
    await cluster.grant(rightful, user, seen)
    (line,) = await refusals(cluster.settings(rightful.topic_prefix, cluster.by_certificate(user)))
    found = "none" if kind == "transactional-id" else "Describe"  # of those the brokers tell nothing
    assert f"rights: found {found}, expected {lacking.operation}; " in line


@pytest.fixture(scope="module")
def rightful(cluster: Cluster) -> Settings:
    """Give an administrator's settings whose topics are there, for all tests of the module that alter none."""
    prefix = f"t{secrets.token_hex(4)}."
    settings = cluster.as_admin(cluster.settings(prefix, cluster.by_password(WORKER)))
    asyncio.run(topics.apply(settings))
    return settings


async def refused(worker: Worker) -> str:
    """Wait for a worker that must refuse to run, and give its one line."""
    assert await worker.ended(SAID_WITHIN_S * patience()) == EXIT_REFUSED, worker.told()
    (line,) = [line for line in worker.lines() if ">>>" not in line and "[info" not in line]
    return line


@pytest.mark.parametrize("kind", ["topic", "group", "transactional-id"])
async def test_a_worker_without_a_right_ends_with_one_line_and_exit_code_2(
    cluster: Cluster, rightful: Settings, tmp_path: Path, kind: str
) -> None:
    needed = acls.acls(rightful, acls.WORKER)
    lacking, user = next(acl for acl in reversed(needed) if acl.resource == kind), f"w{secrets.token_hex(4)}"
    await cluster.grant(rightful, user, tuple(acl for acl in needed if acl != lacking))
    lonely = environment(rightful, "w", **NOBODY | cluster.by_certificate(user))
    line = await refused(Worker("w", lonely, tmp_path / "w.log", (*COMMANDS, "worker")))
    assert f"expected {lacking.operation}; kafka-acls.sh" in line
    assert lacking.name in line


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ("Read on topic {}messages.inbound", "TopicAuthorizationFailed"),
        ("Write on topic {}window-state", "TopicAuthorizationFailed"),
        ("Read on group {}janela", "GroupAuthorizationFailed"),
        ("Write on transactional-id {}janela-*", "TransactionalIdAuthorizationFailed"),
    ],
)
async def test_a_right_that_is_taken_away_from_a_worker_at_work_ends_it_with_one_line(
    cluster: Cluster, settings: Settings, tmp_path: Path, right: str, reason: str
) -> None:
    needed, user = acls.acls(settings, acls.WORKER), f"w{secrets.token_hex(4)}"
    await cluster.grant(settings, user, needed)
    (taken,) = [acl for acl in needed if str(acl) == right.format(settings.topic_prefix)]
    async with Stage.open(settings, tmp_path) as stage:
        worker = stage.worker("w", **NOBODY | cluster.by_certificate(user))
        await stage.preload(records(1))
        await stage.until_consumed(READY_S)
        await cluster.take_away(settings, user, taken)
        await stage.preload(records(2))
        assert await worker.ended(30 * patience()) == EXIT_FAILED, worker.told()
        (line,) = [line for line in worker.lines() if "worker.failed" in line]
        assert reason in line
        assert "Traceback" not in worker.told()


# ------------------------------------------------------------------------------------------- what lets nobody in


async def test_a_password_a_token_or_a_certificate_that_is_no_good_is_one_line(
    cluster: Cluster, rightful: Settings, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path)
    (tmp_path / "token").write_text(token_of(WORKER, seconds=-60))
    yesterday = datetime.now(UTC) - timedelta(days=1)

    def shows(authority: Authority, **more: Any) -> dict[str, Any]:
        certificate, key = authority.pair(f"w{secrets.token_hex(4)}", **more)
        ours = {"ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        return cluster.by_certificate(WORKER, **ours)

    cases: list[tuple[dict[str, Any], str]] = [
        *(
            (cluster.by_password(WORKER, mechanism, sasl_password="wrong"), "refuses the login")
            for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        ),
        (cluster.by_token(oauth_token_file=str(tmp_path / "token")), "refuses the token"),
        (cluster.by_password(WORKER, ssl_ca_file=str(foreign.certificate)), "certificate is not believed"),
        (shows(foreign), "refuses our certificate"),
        (shows(cluster.authority, not_after=yesterday), "refuses our certificate"),
        (cluster.by_certificate(WORKER, ssl_cert_file="", ssl_key_file=""), "refuses our certificate"),
    ]
    async with token_endpoint("janela", "s3cret") as url:
        client = {"oauth_token_url": url, "oauth_client_id": "janela", "oauth_client_secret": "wrong"}
        cases.append((cluster.by_token(**client), "gives no token: HTTP 401"))
        for given, what in cases:
            began_s = time.monotonic()
            (line,) = await refusals(cluster.settings(rightful.topic_prefix, given))
            assert time.monotonic() - began_s < SAID_WITHIN_S * patience()
            assert what in line, given
            assert line.startswith("no way into the cluster: 127.0.0.1:")
            assert "\n" not in line


async def test_a_worker_whose_password_is_wrong_ends_with_one_line_and_without_the_password(
    cluster: Cluster, rightful: Settings, tmp_path: Path
) -> None:
    wrong = environment(rightful, "w", **cluster.by_password(WORKER, sasl_password="a-wrong-one"))
    worker = Worker("w", wrong, tmp_path / "w.log", (*COMMANDS, "worker"))
    line = await refused(worker)
    assert "refuses the login" in line
    assert "a-wrong-one" not in line
    code, out, err = await ran(rightful, "verify", **cluster.by_password(WORKER, sasl_password="a-wrong-one"))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "refuses the login" in err


@asynccontextmanager
async def tls_server(keystore: Path) -> AsyncIterator[str]:
    """Give the address of a server that shows this certificate; whoever does not believe it gets no further."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(keystore)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_brokers_certificate_that_is_expired_or_names_another_host_is_not_believed(
    cluster: Cluster, rightful: Settings
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for keystore, what in (
        (cluster.authority.together("expired", not_after=yesterday), "certificate has expired (ssl_ca_file)"),
        (cluster.authority.together("elsewhere", "kafka.example"), "IP address mismatch"),
    ):
        async with tls_server(keystore) as there:
            given = cluster.by_password(WORKER, bootstrap_servers=there)
            (line,) = await refusals(cluster.settings(rightful.topic_prefix, given))
            assert line.startswith(f"no way into the cluster: {there}: the broker's certificate is not believed: ")
            assert what in line
    unchecked = cluster.settings(rightful.topic_prefix, cluster.by_password(WORKER, ssl_check_hostname=False))
    assert unchecked.connection.options()["ssl_context"].verify_mode == ssl.CERT_REQUIRED


async def test_the_commands_of_the_page_on_security_do_what_they_say(rightful: Settings) -> None:
    page = (ROOT / "docs/security.md").read_text("utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    commands = [line for line in commands if line.startswith("janela ")]
    assert len(commands) == 3
    for command in commands:
        assert await done(rightful, *shlex.split(command)[1:])
