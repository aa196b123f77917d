"""The lines that a worker logs: one catalogue, from which the page in `docs/` is made.

A name that is not in it, or that nothing logs any more, fails the tidy tests.
"""

from typing import Final, Literal, NamedTuple


class LogEvent(NamedTuple):
    """What the catalogue says of a line."""

    level: Literal["info", "warning", "error"]
    meaning: str
    remedy: str
    """What to do about it; a dash where there is nothing to do."""


EVENTS: Final[dict[str, LogEvent]] = {
    "stream.assigned": LogEvent(
        "info", "The group gave partitions; `kept` go on at once, `restoring` read their state first.", "-"
    ),
    "stream.restored": LogEvent("info", "All partitions of this assignment are at work.", "-"),
    "stream.revoked": LogEvent("info", "The group takes partitions away; what was under way is committed.", "-"),
    "stream.open-transaction-ended": LogEvent(
        "info", "A worker that is gone left a transaction open; it was ended, so that its partitions can go on.", "-"
    ),
    "stream.position-jumped": LogEvent(
        "warning",
        "Records came from another place than the one to go on from; they were dropped, and reading begins anew there.",
        "Once in a rebalance is no harm. Again and again: report it.",
    ),
    "stream.brokers-silent": LogEvent(
        "warning",
        "The brokers do not tell where the inputs end (`silent_s`: for so long); idle timers wait for that, and the"
        " worker goes on asking.",
        "Look at the brokers. The worker need not be restarted.",
    ),
    "stream.input-transaction-open": LogEvent(
        "warning",
        "A producer keeps a transaction open on an input topic, and the merge of both topics waits for it.",
        "End that producer, or its transaction: `kafka-transactions.sh find-hanging`.",
    ),
    "stream.dead-letter-flood": LogEvent(
        "error",
        "Of the last records of a partition more are dead letters than the settings allow; `stopped` says whether it"
        " stands still.",
        "Read `dead-letters`: a producer is likely wrong. A partition that stopped goes on after a restart.",
    ),
    "clock.off": LogEvent(
        "warning",
        "This machine's clock is more than 5 minutes off the brokers' time (`ahead_s`; negative: behind). Timers go by"
        " the brokers' time, so no window is wrong.",
        "Set the machine's clock (NTP), or the brokers'.",
    ),
    "clock.unanswered": LogEvent(
        "warning",
        "The brokers did not tell what time it is; the worker goes on by their last answer, and asks again.",
        "Once is no harm. For long: the time may drift, by some ms in ten minutes.",
    ),
    "worker.stopped": LogEvent("info", "The end after SIGTERM or SIGINT, with what the process has done.", "-"),
    "worker.ops-address-taken": LogEvent(
        "warning",
        "Another process listens on `JANELA_OPS_ADDRESS`; the worker goes on without metrics and health.",
        "Give each worker of one machine an address of its own.",
    ),
    "worker.refused": LogEvent(
        "error",
        "The worker won't run (exit code 2): the line says what, what was found, what is allowed and how to mend it.",
        "Do what it says; a restart alone changes nothing, except where no broker answered.",
    ),
    "worker.failed": LogEvent(
        "error",
        "A step failed in a way that leaves unknown what the broker holds (exit code 3).",
        "Restart it, as a supervisor does by itself: it goes on from what is committed.",
    ),
    "worker.fenced": LogEvent(
        "error",
        "Its transactions were ended by another (exit code 3): by a successor that took its partitions over, or the"
        " brokers' time-out, while it stood still (a paused machine, no CPU), or by another process with the same"
        " instance id, which the line says where the group shows it.",
        "Restart it, as a supervisor does by itself. Where its instance id is in use elsewhere, give each worker one of"
        " its own (`JANELA_INSTANCE_ID`).",
    ),
    "worker.stuck": LogEvent(
        "error",
        "A partition has had input and committed nothing for too long; all stacks follow, and the process ends.",
        "Restart it, and report the stacks.",
    ),
    "worker.bug": LogEvent(
        "error",
        "What nobody expected (exit code 3), with a traceback of types and places. What the exceptions say is left out,"
        " as it may quote a contact.",
        "Restart it, and report it.",
    ),
}
"""By name, in the order in which a reader meets them."""
