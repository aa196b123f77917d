"""Nobody's number, name or message comes out of a worker but on the topics: a marked one is put in, and looked for.

Some workers are at work, one is killed, one is asked for its stacks, two have a bug that speaks of a contact, and one
refuses to start on a state record that is damaged.
"""

import random
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED, EXIT_REFUSED
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.chaos.harness import Stage, Worker, patience
from tests.collector import Collector
from tests.integration.test_ops import free_address
from tests.integration.test_stream_guards import command
from tests.integration.test_worker import produce

pytestmark = pytest.mark.timeout(300)

READY_S = 90
MARKS = (b"5599988877", b"kanarienvogel")
"""In every contact's number, and in every id and text."""
TRACED = (
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", b"no state +" + MARKS[0]),
)

BUGS = {
    "loop": """
from processor.stream.owner import Owner

rightly = Owner.decide

def decide(owner, *arguments):
    for event in owner.buffers[0].events:
        try:
            {}[event.key]
        except KeyError as error:
            raise LookupError(f"no window of {event.key}") from error
    return rightly(owner, *arguments)

Owner.decide = decide
""",
    "agent": """
from processor.stream.owner import Owner

def accept(owner, carrier):
    {}[carrier.records[0].key]

Owner.accept = accept
""",
    "consumer": """
from processor.stream.transport import ConsumerThread

rightly = ConsumerThread._take

def take(thread, fetcher, given):
    carriers = rightly(thread, fetcher, given)
    return [{}[it.records[0].key] for it in carriers]

ConsumerThread._take = take
""",
}
DAMAGED = b'{"v":1,"status":"%s001"}' % MARKS[0]


def marked(wanted: Wanted) -> Wanted:
    """Put the marks into a record of the generator, whatever is wrong with it."""

    def with_marks(text: bytes | None) -> bytes | None:
        if text is None:
            return None
        return (
            text.replace(b"5511900000", MARKS[0])
            .replace(b"bound.", MARKS[1] + b".")
            .replace(b"stock", b"kanarienvogel")
        )

    return wanted._replace(key=with_marks(wanted.key), value=with_marks(wanted.value))


async def test_no_number_id_or_text_is_in_logs_metrics_spans_headers_or_the_process_title(
    settings: Settings, tmp_path: Path, collector: Collector
) -> None:
    address = free_address()
    records = [marked(it) for it in backlog(11, 3_000, 90, 1, time.time_ns() // 1_000_000 - 3 * HOUR_MS)]
    records += [marked(it) for it in hostile_numbers(random.Random(5))]
    records = [it._replace(headers=(*it.headers, *TRACED)) for it in records]
    settings = settings.model_copy(update={"partitions": 1, "log_format": "json", "traces": "otlp"})
    async with Stage.open(settings, tmp_path, bugs_ok=True) as stage:
        await stage.preload(records)
        for place, bug in BUGS.items():
            wrong = stage.worker(f"bug-in-{place}", command=command(bug))
            assert await wrong.ended(READY_S) == EXIT_FAILED, wrong.told()
            await stage.evict(wrong)
        first = stage.worker("first", failpoint="records-delivered:2", batch_records_max=100)
        assert await first.ended(READY_S) == -signal.SIGKILL
        await stage.evict(first)
        worker = stage.worker("second", ops_address=address)
        await stage.until_consumed(READY_S)
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
            metrics = await answer.read()
        titles = titles_of(worker.pid)
        await stage.until("spans have come", lambda: len(collector.spans()) > 100, 10 * patience())
        worker.signal(signal.SIGUSR1)
        await stage.until("one has its stacks", lambda: dumps(worker) == 1, READY_S)
        worker.signal(signal.SIGUSR2)
        await stage.until("one has them once more", lambda: dumps(worker) == 2, READY_S)
        letters = [it for found in (await stage.records("dead-letters")).values() for it in found]
        events = [it for found in (await stage.records("window-opened")).values() for it in found]
        worker.signal(signal.SIGTERM)
        assert await worker.ended(READY_S) == 0, worker.told()
        await produce(stage, 0, events[0].key, DAMAGED)
        third = stage.worker("third")
        assert await third.ended(READY_S) == EXIT_REFUSED, third.told()
        log = b"".join(it.log.read_bytes() for it in stage.workers)

    ours = [header for it in letters for header in it.headers if header not in TRACED]
    headers = b"".join(name.encode() + (value or b"") for name, value in ours)
    said = {"log": log, "metrics": metrics, "titles": titles, "headers of dead letters": headers}
    said["spans"] = b"".join(collector.bodies)
    assert len(letters) > 20
    assert any(MARKS[0] in it.key and MARKS[1] in it.value for it in events)  # they were in the records
    assert b"__dlq.message" in headers
    assert b"janela_records_total" in metrics
    assert b"dead letter" in said["spans"]
    assert log.count(b"worker.bug") == len(BUGS)
    assert log.count(b"worker.refused") == 1
    for word in (b"in decide", b"in accept", b"in take", b"LookupError", b"$.status"):
        assert word in log
    for where, text in said.items():
        for mark in MARKS:
            assert mark not in text, f"{where}: {text[max(text.index(mark) - 200, 0) : text.index(mark) + 50]!r}"


def titles_of(pid: int) -> bytes:
    """Give what process lists show of a process and of its threads; nothing where there is no /proc."""
    process = Path(f"/proc/{pid}")
    return b"".join(it.read_bytes() for it in (*process.glob("cmdline"), *process.glob("task/*/comm")))


def hostile_numbers(chance: random.Random) -> list[Wanted]:
    """Give records that hold a number where a message about what is wrong might quote it."""
    number = "5511900000"
    bodies = [
        f'{{"type": "{number}12", "id": "{number}", "business_id": "+{number}", "contact_id": 5, "time": "{number}"}}',
        f'{{"type": "text", "id": "a", "business_id": "1", "contact_id": "+{number}77", "time": 1795373239}}',
        f'{{"type": "consent", "scope": "{number}88", "value": "{number}", "id": "a", "business_id": "1", "time": 1}}',
        f'{{"{number}": {{"{number}": [}}',
        f"{number}",
    ]
    return [
        Wanted(chance.choice(("inbound", "outbound")), 0, f"whatsapp:1:{number}".encode(), body.encode())
        for body in bodies
        for _ in range(4)
    ]


def dumps(worker: Worker) -> int:
    """Count how often a worker has written all its stacks."""
    return worker.log.read_bytes().count(b"Current thread")
