"""Inputs as platforms produce them: in transactions of which a fifth abort, late, twice, and some of the year 2099.

What a producer has aborted was never said; what is from the future harms only itself.
"""

import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from processor.audit.reading import verify
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.chaos.harness import Stage
from tests.chaos.reader import Reader
from tests.chaos.test_exactly_once import CONTACTS, QUICK, START_S, drained, has_partitions
from tests.chaos.trial import SEED, Trial, size

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

EVENTS: Final = size(4_000, a_minute=10_000, proof=20_000)
PART: Final = 40
"""Records of a transaction."""
ABORTED_SHARE: Final = 0.2
FUTURE: Final = "2099-12-31T23:59:59Z"
FUTURE_SHARE: Final = 0.002


async def test_what_producers_abort_and_what_is_of_the_year_2099_changes_nothing_for_others(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 8)
    end_ms = time.time_ns() // 1_000_000 - HOUR_MS
    records = backlog(SEED, EVENTS, CONTACTS, settings.partitions, end_ms)
    chosen = [wanted for wanted in records if chance.random() < FUTURE_SHARE]
    ahead = [dated for wanted in chosen if (dated := of_the_future(wanted)) is not None]
    for wanted in ahead:  # amid the others, where a clock that followed them would spoil all that comes after
        records.insert(chance.randrange(len(records) // 2), wanted)
    # the last ones come without a transaction: behind an end of one there would be positions that nobody commits
    last = len(records) * 9 // 10
    async with Stage.open(settings, tmp_path) as stage:
        await Reader.along(stage)
        worker = stage.worker("w0", batch_records_max=20)
        platform = settings.connection.producer(transactional_id=f"{settings.topic_prefix}platform")
        await platform.start()
        for begin in range(0, last, PART):
            part = records[begin : min(begin + PART, last)]
            while (
                chance.random() < ABORTED_SHARE
            ):  # what it aborts it says again, as a platform would, until it is kept
                await platform.begin_transaction()
                await stage.write(platform, [*part, *(renamed(wanted) for wanted in part[::4])], is_aborted=True)
                await platform.abort_transaction()
                trial.faults["input transaction aborted"] += 1
            await platform.begin_transaction()
            await stage.write(platform, part)
            await platform.commit_transaction()
            if begin // PART % 40 == 39:
                await stage.until("it has partitions", partial(has_partitions, stage, worker), START_S)
                await stage.until_moved(within_s=START_S)
                worker.kill()
                await stage.evict(worker)
                trial.faults["SIGKILL"] += 1
                worker = stage.worker(f"w{begin}", batch_records_max=20)
        await platform.stop()
        await stage.preload(records[last:])
        await stage.until_moved(within_s=START_S)
        worker.kill()
        await stage.evict(worker)
        trial.faults |= {"event of 2099": len(ahead), "SIGKILL": trial.faults["SIGKILL"] + 1}
        trial.notes.append(await drained(stage, stage.worker("last", **QUICK)))
        letters = [letter for found in (await stage.records("dead-letters")).values() for letter in found]
        verdict = await verify(stage.settings)
    refused = [it.value for it in letters if ("__dlq.reason", b"future-time") in it.headers]
    assert len(ahead) <= sum(FUTURE.encode() in (value or b"") for value in refused)
    trial.judge(verdict, stage.events_put)


def of_the_future(wanted: Wanted) -> Wanted | None:
    """Give a message as one from the year 2099 with an id of its own; None where there is nothing to date."""
    try:
        body = json.loads(wanted.value or b"")
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("type") != "text":
        return None
    if wanted.key != f"whatsapp:{body.get('business_id')}:{body.get('contact_id')}".encode():
        return None  # refused for that first
    return wanted._replace(value=json.dumps({**body, "id": f"ahead.{body.get('id')}", "time": FUTURE}).encode())


def renamed(wanted: Wanted) -> Wanted:
    """Give a record as one that was never said but here: it would make an event that no rule accounts for."""
    return wanted._replace(value=(wanted.value or b"").replace(b'"id": "', b'"id": "aborted.'))
