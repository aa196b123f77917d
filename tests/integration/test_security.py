"""A whole worker, and every verb, on a cluster that denies by default: with the generated rights and not one more.

Each way in that Kafka has, what a worker does when another was killed, and the clock of a worker that goes by the day.
"""

import asyncio
import json
import re
import secrets
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from processor import acls
from processor.audit.findings import OUTPUTS
from processor.settings import Settings
from tests.chaos.harness import ROOT, Stage
from tests.secured import NOBODY, PEOPLE, SESSION_MS, WORKER, Cluster, done, records, token_endpoint, token_of
from tests.verbs import janela

pytestmark = pytest.mark.timeout(300)

READY_S = 90


@pytest.fixture
def settings(secured_settings: Settings) -> Settings:
    return secured_settings


# ------------------------------------------------------------------------------------------------- the ways in


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


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "certificate", "SCRAM-SHA-256", "PLAIN", "token endpoint"])
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
        assert not worker.says("clock.unanswered")


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
        assert second.says("open-transaction-ended")
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
        assert worker.says("Heartbeat send request failed")  # a session did end


# ---------------------------------------------------------------------------------------------------- every verb


@pytest.mark.heavy
async def test_every_verb_comes_the_same_way_with_the_rights_of_its_role(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    for role in PEOPLE:
        printed = json.loads(
            await done(settings, *"topics acls --apply --json --for".split(), role, "--principal", f"User:{role}")
        )
        assert printed["principal"] == f"User:{role}"
    platform, auditor, operator, rebuilder, replayer = map(cluster.by_password, PEOPLE)
    assert "created" in await done(settings, "topics", "apply", **operator)
    await done(settings, "topics", "check", **operator)
    await done(settings, "topics", "list", **operator)
    sent = "send inbound --type text --business 15550001 --contact 5511999990001".split()
    await done(settings, *sent, **platform)
    await done(settings, *"load --rate 200 --seconds 1 --contacts 20 --processes 2".split(), **platform)
    await cluster.grant(settings, WORKER, acls.acls(settings, acls.WORKER))
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        worker = stage.worker("w", **cluster.by_password(WORKER))
        await stage.until_consumed(READY_S)
        await cluster.grant(settings, "measurer", (*acls.acls(settings, "platform"), *acls.acls(settings, "auditor")))
        measurer = NOBODY | cluster.by_certificate("measurer")
        await done(settings, *"measure --rate 50 --seconds 2".split(), **measurer)
        worker.signal(signal.SIGTERM)
        await worker.ended(READY_S)
        rebuilt = json.loads(await done(settings, *"rebuild --yes --json".split(), **rebuilder))
        assert rebuilt["windows"] > 0
        assert rebuilt["changed"] == 0
    watched = await done(settings, *"watch --from-beginning --limit 3 --json".split(), **auditor)
    assert len(watched.splitlines()) == 3
    await done(settings, "verify", **auditor)
    archive = str(tmp_path / "day.jsonl.zst")
    await done(settings, "archive", archive, **auditor)
    replay = ("replay", "--from-archive", archive, "--to-prefix", settings.topic_prefix, "--append")
    await done(settings, *replay, **replayer)
    code, _, err = await janela(settings, *sent, **auditor)  # who only reads is not let write
    assert code == 2
    assert len(err.splitlines()) == 1


async def test_the_commands_of_the_page_on_security_do_what_they_say(rightful: Settings) -> None:
    page = (ROOT / "docs/security.md").read_text("utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    commands = [line for line in commands if line.startswith("janela ")]
    assert len(commands) == 3
    for command in commands:
        assert await done(rightful, *shlex.split(command)[1:])
