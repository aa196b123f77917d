"""Exactly once on a cluster that lets in nobody unknown: kills over SASL_SSL and mTLS, with the generated rights alone.

A worker that is killed leaves transactions open, which its successor ends in its name: the rights must do for that, and
for all that a restore asks. Handshakes and logins stand before each of a successor's first steps.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from processor import acls
from processor.audit.reading import verify
from tests.chaos.harness import SESSION_S, Stage
from tests.chaos.test_exactly_once import QUICK, START_S, drained, filled
from tests.chaos.trial import MINUTES, SEED, Trial
from tests.secured import WORKER, Cluster, secured_kafka

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

EVENTS = int(8_000 + 10_000 * MINUTES)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with secured_kafka(tmp_path_factory.mktemp("authority")) as cluster:
        yield cluster


@pytest.mark.parametrize("way", ["password", "certificate"])
async def test_kills_over_tls_and_with_least_rights_lose_nothing_and_double_nothing(
    way: str, cluster: Cluster, topic_prefix: str, tmp_path: Path, trial: Trial
) -> None:
    chance, kills = random.Random(SEED), 4 + int(4 * MINUTES)
    nameless = {"sasl_username": "", "sasl_password": ""}  # where the administrator has a name
    login = cluster.by_password(WORKER) if way == "password" else cluster.by_certificate(WORKER, **nameless)
    slow = {"commit_interval_ms": 30, "batch_records_max": 2, "buffer_records_max": 40}
    administered = cluster.as_admin(cluster.settings(topic_prefix, login, partitions=4, **slow))
    in_transaction = 0
    async with Stage.open(administered, tmp_path) as stage:
        await cluster.grant(administered, WORKER, acls.acls(administered, acls.WORKER))
        await filled(stage, EVENTS)
        worker = stage.worker("w0", **login)
        for n in range(1, kills + 1):
            await stage.until_moved(within_s=START_S)
            more = QUICK if n == kills else {}
            successor = stage.worker("last" if n == kills else f"w{n % 3}", **login | more)
            await asyncio.sleep(chance.uniform(0, SESSION_S / 3))
            worker.kill()
            in_transaction += bool(await stage.open_transactions())
            if n % 4:  # a person takes it out of the group; else its session runs out
                await stage.evict(worker)
            worker = successor
        rest = await drained(stage, worker)
        verdict = await verify(administered)
    trial.faults |= {"SIGKILL": kills}
    trial.notes += [f"{in_transaction} inside a transaction", rest, f"by {way}, deny by default"]
    trial.judge(verdict, stage.events_put)
