"""What a worker says that lacks a right, or is not let in: one line at its start, or at work when it is taken away."""

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from processor import acls, features, rights
from processor.preflight import refusals
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED, EXIT_REFUSED
from tests.certificates import Authority
from tests.chaos.harness import Stage, Worker, environment, patience
from tests.secured import NOBODY, WORKER, Cluster, records, token_endpoint, token_of
from tests.verbs import janela

pytestmark = pytest.mark.timeout(300)

READY_S = 90

SAID_WITHIN_S = 10
"""How soon a worker that may not run must say so, on a machine that has a core for it."""


@pytest.fixture
def settings(secured_settings: Settings) -> Settings:
    return secured_settings


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


async def test_a_right_for_one_workers_transactions_alone_is_not_enough(cluster: Cluster, rightful: Settings) -> None:
    needed, user = acls.acls(rightful, acls.WORKER), f"w{secrets.token_hex(4)}"
    too_narrow = [
        acl._replace(name=f"{acl.name}w", is_prefix=False) if acl.resource == "transactional-id" else acl
        for acl in needed
    ]
    await cluster.grant(rightful, user, tuple(too_narrow))
    (line,) = await refusals(cluster.settings(rightful.topic_prefix, cluster.by_certificate(user)))
    assert line.startswith(f"error: transactional-id {rightful.app_id}-*: rights: found none, expected Write; ")


async def test_what_the_brokers_can_do_is_told_to_whom_nothing_is_allowed(cluster: Cluster, topic_prefix: str) -> None:
    for access in (cluster.by_certificate(f"w{secrets.token_hex(4)}"), cluster.by_password("operator")):
        assert await features.problems(cluster.settings(topic_prefix, access)) == []


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
    line = await refused(Worker("w", lonely, tmp_path / "w.log", ("-m", "processor", "worker")))
    assert f"expected {lacking.operation}; kafka-acls.sh" in line
    assert lacking.name in line


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ("Read on topic {}messages.inbound", "TopicAuthorizationFailed"),
        ("Write on topic {}window-state", "TopicAuthorizationFailed"),
        ("Read on group {}janela", "GroupAuthorizationFailed"),
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
    worker = Worker("w", wrong, tmp_path / "w.log", ("-m", "processor", "worker"))
    line = await refused(worker)
    assert "refuses the login" in line
    assert "a-wrong-one" not in line
    code, out, err = await janela(rightful, "verify", **cluster.by_password(WORKER, sasl_password="a-wrong-one"))
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
