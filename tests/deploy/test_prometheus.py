"""A real Prometheus scrapes a real worker: what alerts, rules and dashboard ask for is there, and alerts fire."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import Stage
from tests.deploy.tools import DEPLOY, needs, path_of
from tests.integration.test_ops import READY_S, free_address, ready

pytestmark = [
    needs("prometheus", unchecked="what a real Prometheus makes of a worker's metrics"),
    pytest.mark.timeout(300),
]

SELECTOR = re.compile(r"\b(?:janela_\w+|up)(?:\{[^}]*\})?")
NOT_YET = {"janela_restore_records"}
"""What the dashboard asks for and a worker tells only meanwhile."""


class Prometheus:
    """Asks a Prometheus that runs."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        """Take where it listens."""
        self._address, self._session = address, session

    async def asked(self, path: str, **parameters: str) -> Any:
        """Ask, and give the data of an answer that must be a success."""
        async with self._session.get(f"http://{self._address}/api/v1/{path}", params=parameters) as answer:
            told = await answer.json()
            assert told["status"] == "success", f"{parameters}: {told}"
            return told["data"]

    async def has(self, query: str) -> bool:
        """Say whether a query has any result."""
        return bool((await self.asked("query", query=query))["result"])

    async def rules(self) -> list[dict[str, Any]]:
        """Give all rules with what became of them."""
        return [rule for group in (await self.asked("rules"))["groups"] for rule in group["rules"]]

    async def firing(self) -> set[str]:
        """Give the names of the alerts that fire."""
        return {rule["name"] for rule in await self.rules() if rule.get("state") == "firing"}


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Prometheus]:
    """Run a Prometheus by our configuration and rules, with our targets' place taken by one, and less patience."""
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    for name in configuration["rule_files"]:
        text = (DEPLOY / "prometheus" / name).read_text("utf-8")
        (folder / name).write_text(re.sub(r"for: \d+m", "for: 2s", text))
    address = free_address()
    arguments = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as into:
        process = await asyncio.create_subprocess_exec(
            str(path_of("prometheus")), *arguments, f"--web.listen-address={address}", stdout=into, stderr=into
        )
    try:
        async with aiohttp.ClientSession() as session:
            yield Prometheus(address, session)
    finally:
        process.terminate()
        await process.wait()


async def until(stage: Stage, what: str, is_so: Callable[[], Any]) -> None:
    """Wait for an answer of Prometheus, which may not listen yet."""

    async def answered() -> Any:
        try:
            return await is_so()
        except aiohttp.ClientConnectorError:
            return False

    await stage.until(what, answered, READY_S, ends_ok=True)


async def test_what_alerts_and_panels_ask_for_is_there_and_alerts_fire(settings: Settings, tmp_path: Path) -> None:
    address = free_address()
    async with Stage.open(settings, tmp_path) as stage, prometheus(tmp_path, address) as asking:
        worker = stage.worker("w", ops_address=address)
        await ready(stage, address)
        await stage.preload(backlog(3, 2_000, 100, settings.partitions, time.time_ns() // 1_000_000 - 3 * HOUR_MS))
        await stage.until_consumed(READY_S)
        await until(stage, "rates are known", lambda: asking.has("sum(rate(janela_dead_letters_total[1m])) >= 0"))
        kept = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text("utf-8"))["groups"]
        alerts = [rule["name"] for rule in await asking.rules() if rule["type"] == "alerting"]
        assert alerts == [rule["alert"] for group in kept for rule in group["rules"]]

        missing = {
            f"{rule['name']}: {selector}"
            for rule in await asking.rules()
            for selector in SELECTOR.findall(rule["query"])
            if not await asking.has(selector)
        }
        assert missing == set()
        assert [rule for rule in await asking.rules() if rule["health"] != "ok"] == []

        async def recorded() -> bool:
            names = [rule["name"] for rule in await asking.rules() if rule["type"] == "recording"]
            return bool(names) and all([await asking.has(name) for name in names])

        await until(stage, "every rule is recorded", recorded)
        board = json.loads((DEPLOY / "grafana/janela.json").read_text("utf-8"))
        queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        silent = [query for query in queries if not await asking.has(query.replace("$__rate_interval", "1m"))]
        assert {name for query in silent for name in re.findall(r"(?:janela|process)_\w+", query)} <= NOT_YET

        healthy = {"JanelaWorkerDown", "JanelaNobodyWorks", "JanelaPartitionStopped", "JanelaCommitsNothing"}
        assert not await asking.firing() & healthy
        worker.kill()

        async def told() -> bool:
            return {"JanelaWorkerDown", "JanelaNobodyWorks"} <= await asking.firing()

        await until(stage, "the alerts of a dead worker fire", told)
