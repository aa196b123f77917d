"""What a hostile or a broken producer can put on a topic, through a real broker to a real worker.

The worker is started by a few lines that note the longest time between two ticks of its loop, by the clock and without
what threads waited for a core meanwhile, and the most memory that it has had: what is on the topics may cost
neither. It is put there several times over: the memory that the first time takes must do. Needs Linux, for /proc.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import pytest
import zstandard
from aiokafka import AIOKafkaProducer, TopicPartition

from processor.audit.partitioner import partition_of
from processor.audit.reading import verify
from processor.audit.records import rfc3339
from processor.settings import Settings
from tests.batches import CODECS, Headers, Row, batch, bomb, compressed, put
from tests.chaos.harness import INPUTS, ROOT, Stage, Worker, environment, patience
from tests.kafka import Kafka

pytestmark = pytest.mark.timeout(300)

READY_S: Final = 90
PARTITIONS: Final = 2
MB: Final = 1024 * 1024
STALL_S: Final = 0.25
"""The longest that the loop may stand still, for whatever reason that lies in the worker: its own work, another thread
that holds the interpreter's lock, a call that blocks. That neighbours on the machine keep threads from a core is told
by the kernel, and taken off: what the loop's own thread waited, and what one other did, that may have held the lock
meanwhile. Not what all of them waited together, which would hide a loop that stands still. Its own CPU counts whole."""
AGAIN: Final = 2
"""So often the same input is put once more: what the worker keeps of a record would add up each time."""

WORKER: Final = """
import asyncio, json, time
from contextlib import suppress
from pathlib import Path
from threading import get_native_id
from processor.settings import Settings
from processor.stream.app import create_app

app = create_app(Settings.load())

def status(name):
    return int(Path("/proc/self/status").read_text().partition(name)[2].split()[0]) // 1024

def waits():
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found[int(task.name)] = int((task / "schedstat").read_text().split()[1]) / 1e9
    return found

@app.task
async def tick():
    while not app.engine.owners:
        await asyncio.sleep(0.1)
    Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted from here
    longest, by_clock, told, loop = 0.0, 0.0, 0.0, get_native_id()
    while True:
        began, used, before = time.monotonic(), time.thread_time(), waits()
        await asyncio.sleep(0.005)
        stood_s, used_s = time.monotonic() - began - 0.005, time.thread_time() - used
        waited = {thread: s - before.get(thread, s) for thread, s in waits().items()}
        stood_by_itself_s = stood_s - waited.pop(loop) - max(waited.values(), default=0)
        by_clock, longest = max(by_clock, stood_s), max(longest, used_s, stood_by_itself_s)
        if time.monotonic() - told > 0.3:
            seen = {"stall_s": longest, "by_clock_s": by_clock}
            seen |= {"most_mb": status("VmHWM:"), "now_mb": status("VmRSS:")}
            print("SEEN " + json.dumps(seen), flush=True)
            longest, by_clock, told = 0.0, 0.0, time.monotonic()

worker = app.Worker(loglevel="WARN", quiet=True)
worker.execute_from_commandline()
"""


class Seen(NamedTuple):
    """What a worker has gone through while it was given something."""

    stall_s: float
    by_clock_s: float
    most_mb: int
    now_mb: int

    @classmethod
    def of(cls, lines: Sequence[dict[str, Any]]) -> Self:
        """Sum up what it has told."""
        stall_s, by_clock_s = (max(line[name] for line in lines) for name in ("stall_s", "by_clock_s"))
        return cls(stall_s, by_clock_s, lines[-1]["most_mb"], lines[-1]["now_mb"])

    def __str__(self) -> str:
        stalls = f"longest stall {self.stall_s * 1000:.0f} ms, by the clock {self.by_clock_s * 1000:.0f} ms"
        return f"{stalls}; {self.most_mb} MB at most so far, {self.now_mb} MB after"


def seen(worker: Worker) -> list[dict[str, Any]]:
    """Give what the worker has said of itself, some three times a second."""
    return [json.loads(line.removeprefix("SEEN ")) for line in worker.lines() if line.startswith("SEEN ")]


async def told(stage: Stage, worker: Worker) -> list[dict[str, Any]]:
    """Give what it has said once it has also told of now."""
    known = len(seen(worker))
    await stage.until("it tells of now", lambda: len(seen(worker)) >= known + 2, 30 * patience())
    return seen(worker)


Batches = Sequence[tuple[int, bytes]]
"""Batches, and the partition of each."""


class Producer:
    """Puts whatever it is told to on the inbound topic."""

    def __init__(self, stage: Stage, kafka: AIOKafkaProducer) -> None:
        self._stage, self.kafka = stage, kafka
        self._count = 0
        self.now_ms = time.time_ns() // 1_000_000 - 3_600_000

    def good(self, **more: Any) -> tuple[int, Row]:
        """Give a message that can be read, and its partition."""
        self._count += 1
        contact = f"55119{self._count:08d}"
        key = f"whatsapp:15550001:{contact}".encode()
        body = {"id": f"m{self._count}", "type": "text", "business_id": "15550001", "contact_id": contact}
        value = json.dumps(body | {"time": rfc3339(self.now_ms + self._count)} | more).encode()
        return partition_of(key, PARTITIONS), (key, value, [])

    def on(self, partition: int, **more: Any) -> Row:
        """Give a message for one partition."""
        return next(row for n, row in iter(lambda: self.good(**more), None) if n == partition)

    async def put(self, partition: int, data: bytes) -> int:
        return await put(self.kafka, TopicPartition(self._stage.names["messages.inbound"], partition), data)


@pytest.fixture
async def stage(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Stage]:
    settings = Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
    )
    async with Stage.open(settings, tmp_path) as stage:
        yield stage


@pytest.fixture
async def producer(stage: Stage) -> AsyncIterator[Producer]:
    kafka = AIOKafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers, acks="all", enable_idempotence=False)
    await kafka.start()
    yield Producer(stage, kafka)
    await kafka.stop()


async def at_work(stage: Stage, producer: Producer) -> Worker:
    """Start a worker and wait until it has done something on each partition, which also warms it up."""
    for partition in range(PARTITIONS):
        await producer.put(partition, batch([producer.on(partition)]))
    worker = stage.worker("probed", command=("-c", WORKER))
    await stage.until_consumed(READY_S * patience())
    await stage.until("it counts its memory", lambda: seen(worker), 30)
    return worker


async def letters(stage: Stage) -> list[tuple[str, str, bytes | None, dict[str, bytes]]]:
    """Give reason, message, value and headers of all dead letters."""
    found = await stage.records("dead-letters")
    headers = [(dict(record.headers), record.value) for records in found.values() for record in records]
    return [(it["__dlq.reason"].decode(), it["__dlq.message"].decode(), value, it) for it, value in headers]


async def hold(
    stage: Stage, producer: Producer, worker: Worker, what: str, batches: Batches, growth_mb: int, again_mb: int
) -> None:
    """Put the same batches again, print what the worker has gone through each time, and hold it to the bars.

    `growth_mb` is what the most memory may grow by the first time, `again_mb` by all the others together. What is left
    in between tells less: after the large records the allocator kept 87 MB once, and 145 MB another time.
    """
    times = [Seen.of(await told(stage, worker))]
    for _ in range(AGAIN):
        known = len(await told(stage, worker))
        for partition, data in batches:
            await producer.put(partition, data)
        await stage.until_consumed(READY_S * patience())
        times.append(Seen.of((await told(stage, worker))[known:]))
    before_mb = (await told(stage, worker))[0]["now_mb"]
    sys.stdout.write(f"\n  {what}: {before_mb} MB before" + "".join(f"\n    {each}" for each in times) + "\n")
    assert max(each.stall_s for each in times) < STALL_S
    assert times[0].most_mb - before_mb < growth_mb
    assert times[-1].most_mb - times[0].most_mb < again_mb


async def test_a_compressed_batch_is_read_as_any_other(stage: Stage, producer: Producer) -> None:
    for number, compress in CODECS.values():
        for partition in range(PARTITIONS):
            rows = [producer.on(partition, text="Good morning " * 20) for _ in range(200)]
            await producer.put(partition, compressed(batch(rows), number, compress))
    stage.worker("w")
    await stage.until_consumed(READY_S * patience())
    verdict = await verify(stage.settings)
    assert verdict.is_clean, verdict
    assert verdict.outputs >= 400 * len(CODECS)
    assert await letters(stage) == []


BOMBS: Final = {"gzip": 500 * MB, "snappy": 18 * MB, "lz4": 200 * MB, "zstd": 1500 * MB}


@pytest.mark.heavy
async def test_decompression_bombs_cost_neither_memory_nor_time_nor_a_record(stage: Stage, producer: Producer) -> None:
    worker = await at_work(stage, producer)
    key = producer.on(0)[0] or b""
    batches = [(0, bomb(name, key, size, producer.on(0), producer.now_ms)) for name, size in BOMBS.items()]
    batches += [(1, batch([producer.on(1)])) for _ in BOMBS]
    batches += [(0, batch([producer.on(0)]))]
    for partition, data in batches:
        await producer.put(partition, data)
    await stage.until_consumed(READY_S * patience())
    await stage.until("the records behind the bombs are out", lambda: _opened(stage, 2 + 2 * len(BOMBS) + 1), 30)
    found = await letters(stage)
    assert [(reason, value) for reason, _, value, _ in found] == [("too-large", None)] * len(BOMBS)
    assert [int(headers["__dlq.size"]) for *_, headers in found] == list(BOMBS.values())
    assert all(len(headers["__dlq.sha256"]) == 64 for *_, headers in found)
    await hold(stage, producer, worker, "bombs of 18 MB to 1.5 GB", batches, 30, 8)


VERB: Final = """
import sys
from pathlib import Path
from processor.cli.main import main

try:
    main(sys.argv[1:])
finally:
    print("MOST", int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024, file=sys.stderr)
"""
VERB_MB: Final = 100
"""The most memory that a verb may ever have: they reach 70 MB, and some 60 MB of it are their imports."""


async def _verb(stage: Stage, *arguments: str) -> tuple[int, str, str]:
    """Run a verb, hold its memory to the bar, and give its code, its output and its last words."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", VERB, *arguments),
        cwd=ROOT,
        env=environment(stage.settings, "verb"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(100 * patience()):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    words, _, most = err.decode().rpartition("MOST ")
    sys.stdout.write(f"\n  {' '.join(arguments[:2])}: {most.strip()} MB at most, exit code {process.returncode}\n")
    assert int(most) < VERB_MB, words
    return process.returncode or 0, out.decode(), " ".join(words.split())


@pytest.mark.heavy
async def test_no_verb_expands_a_bomb_and_each_says_what_it_makes_of_it(
    stage: Stage, producer: Producer, tmp_path: Path
) -> None:
    # more than twice the bar, and nine verbs expand them all
    bombs = {name: min(size, 250 * MB) for name, size in BOMBS.items()}
    worker = await at_work(stage, producer)
    key = producer.on(0)[0] or b""
    for name, size in bombs.items():
        await producer.put(0, bomb(name, key, size, producer.on(0), producer.now_ms))
    many: Row = (key, b"7", [("h", None)] * 20_000)  # few bytes, but too many to be kept
    await producer.put(0, compressed(batch([many, (key, bytes(3 * MB), []), producer.on(0)]), *CODECS["zstd"]))
    await stage.until_consumed(READY_S * patience())
    assert [reason for reason, *_ in await letters(stage)] == ["too-large"] * len(bombs) + ["bad-field", "too-large"]
    worker.kill()
    await stage.evict(worker)
    good, bad = PARTITIONS + len(bombs) + 1, len(bombs) + 2

    code, out, words = await _verb(stage, "verify")
    assert code == 0, out + words

    code, out, words = await _verb(stage, "rebuild", "--yes", "--json")
    assert code == 0, words
    assert (json.loads(out)["windows"], json.loads(out)["dead_letters"]) == (good, bad)

    archive = str(tmp_path / "a.jsonl.zst")
    replay = ("replay", "--to-prefix", f"{stage.settings.topic_prefix}lab.", "--dry-run", "--json")
    for verb in (("archive", archive, "--json"), replay):
        code, _, words = await _verb(stage, *verb)
        assert code == 2
        assert f"{stage.names['messages.inbound']}[0]@1: found a value of {bombs['gzip']:,} bytes" in words
        code, out, words = await _verb(stage, *verb, "--leave-out-too-large")
        assert code == 0, words
        assert (json.loads(out)["records"], json.loads(out)["left_out"]) == (good, bad)

    code, out, _ = await _verb(stage, "archive", archive, "--leave-out-too-large")
    assert f"{good} records in" in out
    assert f", {bad} left out as too large" in out

    topic = TopicPartition(stage.names["window-opened"], 0)
    await put(producer.kafka, topic, bomb("gzip", key, bombs["gzip"], producer.on(0), producer.now_ms))
    code, out, words = await _verb(stage, "watch", "--from-beginning", "--json", "--limit", str(good + 1))
    assert code == 0, words
    assert {"key": key.decode(), "too_large": f"a value of {bombs['gzip']:,} bytes"} in map(
        json.loads, out.splitlines()
    )
    code, _, words = await _verb(stage, "verify")
    assert code == 2
    assert f"found a value of {bombs['gzip']:,} bytes" in words
    assert "no worker wrote it" in words


async def _opened(stage: Stage, count: int) -> bool:
    return sum(map(len, (await stage.records("window-opened")).values())) == count


async def test_records_that_are_hostile_in_themselves_stop_nobody(stage: Stage, producer: Producer) -> None:
    worker = await at_work(stage, producer)
    good = producer.on(0)
    many: Headers = [(f"h{n}", b"x") for n in range(3_000)]
    key, value, _ = good
    assert key is not None
    assert value is not None
    hostile: dict[str, Row] = {
        "too-large 10,000 headers": (key, value, [(f"header-{n}", b"x" * 5) for n in range(10_000)]),
        "too-large 300,000 headers": (key, value, many[:1] + [("x", None)] * 300_000),
        "too-large key": (b"k" * 900_000, value, []),
        "too-large eighty thousand names": (key, b"{" + b",".join(b'"%x":1' % n for n in range(80_000)) + b"}", []),
        "not-json as deep as fits": (key, b"[" * 60_000, []),
        "not-json objects as deep as fits": (key, b'{"":' * 15_000, []),
        "missing-field six thousand names": (key, b"{" + b",".join(b'"%x":1' % n for n in range(6_000)) + b"}", []),
        "not-json null everything": (None, None, [("", None)]),
        "not-json nothing": (b"", b"", []),
        "bad-field many headers": (key, b"7", many),
    }
    batches = [(0, batch([row])) for row in hostile.values()]
    million = batch([(key, b"{" + b",".join(b'"k%06d":0' % n for n in range(1_000_000)) + b"}", [])])
    batches += [(0, compressed(million, 4, zstandard.ZstdCompressor(level=10).compress))]
    named = batch([(key, b"7", [("name", b"x")]), producer.on(0)]).replace(b"name", b"\xff\xfe\xfd\xfc")
    batches += [(0, compressed(named, 0, bytes)), (0, batch([producer.on(0)]))]
    for partition, data in batches:
        await producer.put(partition, data)
    await stage.until_consumed(READY_S * patience())
    found = await letters(stage)
    assert [reason for reason, *_ in found] == [*(name.split()[0] for name in hostile), "too-large", "bad-field"]
    assert int(found[-2][3]["__dlq.size"]) == 12_000_001
    assert found[9][2] == b"7"
    assert [name for name in found[9][3] if not name.startswith("__dlq.")] == [name for name, _ in many]
    assert "\\xff\\xfe\\xfd\\xfc" in found[-1][3]
    assert await _opened(stage, 4)
    await hold(stage, producer, worker, "hostile records", batches, 50, 24)
    verdict = await verify(stage.settings)
    assert verdict.is_clean, verdict


@pytest.mark.heavy
async def test_a_backlog_of_large_records_is_held_back_by_its_bytes(stage: Stage, producer: Producer) -> None:
    number, compress = CODECS["zstd"]
    worker = await at_work(stage, producer)
    key = producer.on(0)[0]
    large = compressed(batch([(key, b"%d " % n + b"x" * 60_000, []) for n in range(500)]), number, compress)
    batches = [(0, large)] * 5  # 150 MB, in batches of a few KB
    for partition, data in batches:
        await producer.put(partition, data)
    await stage.until_consumed(READY_S * patience())
    await hold(stage, producer, worker, "150 MB of large records", batches, 120, 32)
    total = (1 + AGAIN) * len(batches) * 500
    assert sum((await stage.ends("dead-letters")).values()) >= total
    assert sum((await stage.ends(*INPUTS.values())).values()) == total + PARTITIONS
