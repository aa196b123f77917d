"""Metrics, liveness and readiness of a real worker on a real broker."""

import asyncio
import json
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from processor.settings import Settings
from processor.stream.engine import EXIT_REFUSED
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import INPUTS, Stage, Worker, patience
from tests.integration.test_worker import either_way

pytestmark = pytest.mark.timeout(300)

READY_S = 90
SLOW_CLIENTS = 300
DESCRIPTORS = 400
WITH_FEW_DESCRIPTORS = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, {DESCRIPTORS}))
sys.argv = ["janela", "worker"]
runpy.run_module("processor", run_name="__main__")
"""


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


async def asked(address: str, path: str) -> tuple[int, str]:
    """Give status and text; status 0 where nobody listens."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientConnectorError:
        return 0, ""


async def scraped(address: str) -> dict[str, float]:
    """Scrape, and give each series by its name and labels."""
    status, text = await asked(address, "/metrics")
    assert status == 200
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True) if sample.labels else ''}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(series: dict[str, float], name: str) -> float:
    return sum(value for key, value in series.items() if key.partition("{")[0] == name)


async def ready(stage: Stage, address: str) -> None:
    async def is_ready() -> bool:
        return (await asked(address, "/readyz"))[0] == 200

    await stage.until("the worker is ready", is_ready, READY_S)


async def stopped(worker: Worker) -> None:
    worker.signal(signal.SIGTERM)
    assert await worker.ended(10 * patience()) == 0


async def test_what_a_worker_tells_is_what_it_has_done(settings: Settings, tmp_path: Path) -> None:
    address = free_address()
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(backlog(3, 2_000, 100, 2, time.time_ns() // 1_000_000 - 3 * HOUR_MS))
        worker = stage.worker("w", ops_address=address)
        await ready(stage, address)
        await stage.until_consumed(READY_S)
        assert await asked(address, "/livez") == (200, "ok\n")
        series = await scraped(address)
        inputs = sum((await stage.ends(*INPUTS.values())).values())
        letters = sum(map(len, (await stage.records("dead-letters")).values()))
        assert total(series, "janela_dead_letters_total") > 3
        read = total(series, "janela_records_total") + total(series, "janela_dead_letters_total")
        assert read == inputs
        outputs = await stage.records("window-opened", "window-expiring", "window-closed", "send-rejected")
        by_topic = {"window-opened": 0, "window-expiring": 0, "window-closed": 0, "send-rejected": 0}
        for tp, records in outputs.items():
            by_topic[tp.topic.removeprefix(settings.topic_prefix)] += len(records)
        for topic, count in by_topic.items():
            assert series[f'janela_outputs_total{{"topic": "{topic}"}}'] == count
        assert total(series, "janela_rejections_total") == by_topic["send-rejected"]
        assert total(series, "janela_dead_letters_total") == letters
        opened_less_closed = by_topic["window-opened"] - by_topic["window-closed"]
        assert total(series, "janela_open_windows") == opened_less_closed
        assert total(series, "janela_offset_lag_records") == 0
        assert series['janela_partitions{"state": "at-work"}'] == 2
        assert (series["janela_rebalances_total"], series["janela_restore_seconds_count"]) == (1, 1)
        assert series["janela_transactions_total"] == series["janela_transaction_seconds_count"] > 0
        await stopped(worker)


async def test_a_worker_without_partitions_is_ready_to_take_some_over(settings: Settings, tmp_path: Path) -> None:
    addresses = {name: free_address() for name in ("a", "b", "c")}
    async with Stage.open(settings, tmp_path) as stage:
        workers = [stage.worker(name, ops_address=address) for name, address in addresses.items()]

        async def is_shared() -> bool:
            placed = [len((await stage.partitions_of(worker))[1]) for worker in workers]
            return sorted(placed) == [0, 1, 1]

        assert await asked(addresses["a"], "/readyz") == (0, "")
        await stage.until("two have a partition each, the third is in the group", is_shared, READY_S)
        for address in addresses.values():
            await ready(stage, address)
            assert (await asked(address, "/livez"))[0] == 200


async def test_an_address_that_was_chosen_and_can_not_be_had_is_refused(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with Stage.open(settings, tmp_path) as stage:
            worker = stage.worker("w", ops_address=f"127.0.0.1:{taken.getsockname()[1]}")
            assert await worker.ended(READY_S) == EXIT_REFUSED
            assert "JANELA_OPS_ADDRESS (ops_address): found 127.0.0.1:" in worker.told()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@either_way
async def test_a_worker_listens_where_its_setting_says_and_nowhere_else(
    settings: Settings, tmp_path: Path, command: tuple[str, ...]
) -> None:
    address = free_address()
    async with Stage.open(settings, tmp_path) as stage:
        told = stage.worker("told", command=command, ops_address=address)
        silent = stage.worker("silent", command=command, ops_address="")
        await ready(stage, address)

        async def is_placed() -> bool:
            return bool((await stage.partitions_of(silent))[1])

        await stage.until("the second has joined", is_placed, READY_S)
        assert listening(told.pid) == {int(address.rpartition(":")[2])}
        assert listening(silent.pid) == set()


def listening(pid: int) -> set[int]:
    """Give the TCP ports on which a process listens."""
    links = list[str]()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(link.readlink()))
    inodes = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return {int(line[1].rpartition(":")[2], 16) for line in lines if line[3] == "0A" and line[9] in inodes}


async def test_slow_clients_keep_nobody_from_asking(settings: Settings, tmp_path: Path) -> None:
    address = free_address()
    host, _, port = address.rpartition(":")
    async with Stage.open(settings, tmp_path) as stage:
        worker = stage.worker("w", command=("-c", WITH_FEW_DESCRIPTORS), ops_address=address)
        await ready(stage, address)
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(SLOW_CLIENTS)]
        for _, writer in slow:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n")  # and never the end of it
        assert (await asked(address, "/readyz"))[0] == 200
        assert await asked(address, "/livez") == (200, "ok\n")
        assert (await asked(address, "/elsewhere"))[0] == 404
        kept = DESCRIPTORS // 2  # the worker has asked for all that it may have, and half of them are for Kafka
        for reader, _ in slow[:-kept]:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), READY_S) == b""
        assert not any(reader.at_eof() for reader, _ in slow[len(slow) - kept + 10 :])
        for _, writer in slow:
            writer.close()
        await stopped(worker)
