"""Logging: structlog, for people or as JSON, the same for our lines and those of the libraries.

A line has an event name, never a payload, a contact or a message id. So a traceback shows types and places alone: local
variables hold all of these, and an exception's message may quote one (`KeyError: b'whatsapp:...'`). The names of our
own lines are in a catalogue (`processor.ops.events`).
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError

_BEFORE_VALUES: Final = re.compile(r"[^\n<({]*")

BURST: Final = 10
PERIOD_S: Final = 10.0
"""At most so many lines of one kind in so many seconds: a broker that is away must not fill a disk."""


UNLIMITED: Final = frozenset(["worker.refused"])
"""Events of which each line counts: all reasons at once, and then the process ends."""


class RateLimit(logging.Filter):
    """Lets `BURST` lines of one kind through in each period; the first one after that says how many were held back.

    Of one kind are lines of one logger with one event name, or with one text before its values are put in.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Take the clock that periods are told by."""
        super().__init__()
        self._clock_s = clock_s
        self._periods: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line goes out, and note on it (`suppressed`) what did not."""
        if isinstance(record.msg, dict) and record.msg["event"] in UNLIMITED:
            return True
        kind = record.name, str(record.msg["event"]) if isinstance(record.msg, dict) else str(record.msg)
        now_s = self._clock_s()
        began_s, count = self._periods.get(kind, (now_s, 0))
        if now_s - began_s >= PERIOD_S:
            record.suppressed = max(count - BURST, 0)
            began_s, count = now_s, 0
        self._periods[kind] = began_s, count + 1
        return count < BURST


class WithoutValues(logging.Filter):
    """Takes out of a library's line what may quote a record: messages of exceptions, and asyncio's lists of objects.

    An exception leaves its type, except where brokers or the operating system speak.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the line; it always goes out."""
        if isinstance(record.args, tuple):
            record.args = tuple(_without_message(it) for it in record.args)
        if record.name == "asyncio":
            record.msg = _BEFORE_VALUES.match(str(record.msg))[0]  # type: ignore[index]  # it matches everything
        return True


def _without_message(value: object) -> object:
    if not isinstance(value, BaseException) or isinstance(value, KafkaError | OSError):
        return value
    return _name(type(value))


def _tell_suppressed(_: Any, __: str, line: dict[str, Any]) -> dict[str, Any]:
    if suppressed := getattr(line["_record"], "suppressed", 0):
        line["suppressed"] = suppressed
    return line


def _traceback(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """Write an exception and those that led to it, in Python's order, by their types and frames."""
    chain: list[BaseException] = []
    error: BaseException | None = exc_info[1]
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nwhich led to\n\n".join(
        "".join(["Traceback (most recent call last):\n", *traceback.format_tb(it.__traceback__), _name(type(it))])
        for it in reversed(chain)
    )


def _name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(log_format: str, log_level: str) -> dict[str, Any]:
    """Give the configuration for `logging.config.dictConfig`, and point structlog at it."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.processors.JSONRenderer()
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    _tell_suppressed,
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.ExceptionRenderer(_traceback),
                    renderer,
                ],
            }
        },
        "filters": {"rate": {"()": RateLimit}, "values": {"()": WithoutValues}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["rate", "values"],
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "processor": {"level": log_level.upper()},
            # Faust's services log under the modules of our subclasses that they start and stop.
            **{f"processor.stream.{service}": {"level": "WARNING"} for service in ("store", "transport")},
            "processor.stream.app": {"level": "ERROR"},  # it misses a sensor's state in each first rebalance
            # It warns of what it tries again, thousands of times. What fails in its clients is raised as well, and told
            # by us in one line; what fails in its consumer's tasks is not.
            "aiokafka": {"level": "CRITICAL"},
            "aiokafka.consumer": {"level": "ERROR"},
            "opentelemetry.trace": {"level": "ERROR"},  # it would quote a tracestate that is none
        },
    }
