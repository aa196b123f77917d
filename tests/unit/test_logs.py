"""Log lines: of one kind only so many go out, what is held back is told, and the page says what the catalogue says."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from processor.logs import BURST, PERIOD_S, RateLimit, WithoutValues
from processor.ops.events import EVENTS
from processor.ops.pages import log_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/logs.md"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def line(text: object, *values: object, logger: str = "aiokafka.consumer") -> Any:
    return logging.LogRecord(logger, logging.ERROR, "", 0, text, values, None)


FLOOD = """
import logging, logging.config, structlog
from processor import logs

now_s = 0.0
logs.RateLimit.__init__.__defaults__ = (lambda: now_s,)
logging.config.dictConfig(logs.logging_config("json", "info"))
log = structlog.get_logger("processor.test")
for n in [*range(logs.BURST + 5), "last"]:
    now_s += logs.PERIOD_S * (n == "last")
    log.error("worker.failed", n=n)
    logging.getLogger("aiokafka.consumer").error("fetch from node %s failed", n)
"""

BUG = """
import logging, logging.config, structlog
from processor.logs import logging_config

logging.config.dictConfig(logging_config("{log_format}", "info"))
log = structlog.get_logger("processor.test")
number = "55119" + "99990001"

def of_contact(windows, key):
    return windows[key]

def look_up(key):
    try:
        return of_contact({{}}, key)
    except KeyError as error:
        raise LookupError(f"no window of {{key}}") from error

def clean_up(key):
    try:
        look_up(key)
    finally:
        int(key)

try:
    clean_up(f"whatsapp:1:{{number}}")
except ValueError as error:
    error.add_note(number)
    log.error("worker.bug", exc_info=error)
    log.exception("worker.bug")
    logging.getLogger("faust").exception("crashed")
"""


def test_of_one_kind_so_many_lines_go_out_in_a_period_and_the_next_one_counts_the_rest() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    assert [limit.filter(line("no broker %s", n)) for n in range(BURST + 7)] == [True] * BURST + [False] * 7
    clock.now_s += PERIOD_S
    late = line("no broker %s", 99)
    assert limit.filter(late)
    assert late.suppressed == 7
    clock.now_s += PERIOD_S
    later = line("no broker %s", 100)
    assert limit.filter(later)
    assert later.suppressed == 0


def test_a_flood_of_one_kind_holds_back_no_other() -> None:
    limit = RateLimit(Clock())
    for n in range(10 * BURST):
        limit.filter(line("no broker %s", n))
    assert limit.filter(line("something else"))
    assert limit.filter(line("no broker %s", 1, logger="aiokafka.producer"))
    assert limit.filter(line({"event": "worker.failed"}, logger="processor.stream.engine"))


def test_kinds_of_our_own_lines_are_their_event_names() -> None:
    limit = RateLimit(Clock())
    ours = [limit.filter(line({"event": "stream.position-jumped", "offset": n})) for n in range(BURST + 1)]
    assert ours == [True] * BURST + [False]


def test_all_reasons_to_refuse_are_told() -> None:
    limit = RateLimit(Clock())
    assert all(limit.filter(line({"event": "worker.refused", "reason": n})) for n in range(BURST + 1))


def test_a_worker_writes_json_lines_of_which_a_flood_is_held_back_and_counted() -> None:
    done = subprocess.run([sys.executable, "-c", FLOOD], cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [json.loads(text) for text in done.stderr.splitlines()]
    assert len(lines) == 2 * (BURST + 1)
    assert [(last["event"], last["suppressed"]) for last in lines[-2:]] == [
        ("worker.failed", 5),
        ("fetch from node last failed", 5),
    ]
    assert all("suppressed" not in before for before in lines[:-2])


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_types_and_places_of_all_exceptions_and_nothing_that_they_say(log_format: str) -> None:
    program = BUG.format(log_format=log_format)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "99990001" not in done.stderr, done.stderr
    told = done.stderr.replace("\\n", "\n").replace('\\"', '"')
    places = re.findall(r'^  File "<string>", line \d+, in ([\w<>]+)$|^(\w+Error)\b', told, re.MULTILINE)
    assert ["".join(it) for it in places] == 3 * [
        *("look_up", "of_contact", "KeyError"),
        *("clean_up", "look_up", "LookupError"),
        *("<module>", "clean_up", "ValueError"),
    ]


def test_the_page_says_what_the_catalogue_says() -> None:
    assert PAGE.read_text("utf-8") == log_page(), "make docs"


def test_each_line_of_the_catalogue_says_what_it_means_and_errors_what_to_do() -> None:
    for name, event in EVENTS.items():
        assert event.meaning.endswith("."), name
        assert event.remedy.endswith(".") if event.level != "info" else event.remedy == "-", name


@pytest.mark.parametrize(
    ("of_library", "told"),
    [
        (line("Crashed reason=%r", KeyError("whatsapp:1:5511")), "Crashed reason='KeyError'"),
        (line("%s: %s", "fetch", UnicodeDecodeError("utf-8", b"5511", 0, 1, "bad")), "fetch: UnicodeDecodeError"),
        (line("Heartbeat: %s", KafkaConnectionError("node 1")), "Heartbeat: KafkaConnectionError: node 1"),
        (line("refused: %s", ConnectionRefusedError("port 9092")), "refused: port 9092"),
        (line("%(a)s", {"a": 1}), "1"),
        (
            line("Task exception was never retrieved\nfuture: <Task exception=KeyError('5511')>", logger="asyncio"),
            "Task exception was never retrieved",
        ),
        (line("Exception in callback take(b'5511')", logger="asyncio"), "Exception in callback take"),
    ],
)
def test_a_line_of_a_library_quotes_no_message_of_an_exception(of_library: Any, told: str) -> None:
    assert WithoutValues().filter(of_library)
    assert of_library.getMessage() == told
