"""Runs single tests on a copy of the repository, each in a fork of its own: started by `workshop` inside of the copy.

An order is a line of JSON, `{"test": node id, "environment": {...}}`; the answer is one too. What takes long to import
is imported once, and nothing of ours is: a fork reads our code as it stands in the copy when its order comes.
"""

import importlib
import json
import os
import sys
import traceback
from typing import Any

import pytest

WARM = (
    *("aiohttp.web", "aiokafka.admin", "faust.agents", "faust.app.base", "faust.tables"),
    *("faust.transport.drivers.aiokafka", "jsonschema", "msgspec", "orjson", "pydantic_settings", "rich.table"),
    "structlog",
)


class Outcome:
    """What became of the tests of a run, as pytest tells it to a plugin."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        """What was said of each test that failed by itself, not in its fixtures."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test."""
        if report.when == "call" and report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failed.append(f"{report.nodeid}: {crash.message if crash else report.longrepr}")
        self.passed += report.when == "call" and report.passed


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Run the test of an order, here."""
    os.environ.update(order["environment"])
    outcome = Outcome()
    without = ("cacheprovider", "faulthandler", "hypothesispytest")  # the last one alone takes as long as a test
    options = ["-q", "-x", "--tb=short", *(f"-pno:{name}" for name in without), *order["tests"]]
    code = int(pytest.main(options, plugins=[outcome]))
    return {"code": code, "passed": outcome.passed, "failed": outcome.failed}


def forked(order: dict[str, Any], answers: int) -> None:
    """Run the test of an order in a process of its own, which writes the answer."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            answer = {"code": -1, "passed": 0, "failed": [], "error": f"the fork ended with {status}"}
            os.write(answers, json.dumps(answer).encode() + b"\n")
        return
    try:
        with open(order["told"], "wb") as told:  # noqa: PTH123 (a descriptor is wanted)
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
        answer = run(order)
    except BaseException:  # noqa: BLE001 (nothing of the fork may go on in its parent's loop)
        answer = {"code": -1, "passed": 0, "failed": [], "error": traceback.format_exc()}
    os.write(answers, json.dumps(answer).encode() + b"\n")
    os._exit(0)


def main() -> None:
    """Take orders until there are no more."""
    for name in WARM:
        importlib.import_module(name)
    sys.dont_write_bytecode = True  # what a fork has compiled may be of a line that is changed back within a second
    answers = os.dup(1)
    for line in sys.stdin:
        forked(json.loads(line), answers)


if __name__ == "__main__":
    main()
