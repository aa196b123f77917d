"""Logging: structlog, for people or as JSON, the same for our lines and those of the libraries.

A line has an event name, never a payload, a contact or a message id; a traceback never shows local variables, in which
all of these would stand.
"""

import logging
import sys
from typing import Any

import structlog

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
    renderer: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if log_format == "console":
        renderer = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
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
        },
    }
