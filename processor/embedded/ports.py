"""Ports for the nodes, on the loopback address alone."""

from __future__ import annotations

import errno
import os
import random
import socket
import time

from processor.embedded.errors import EmbeddedKafkaError

HOST = "127.0.0.1"

RANGE = range(20_000, 32_000)
"""Below the ports that Linux and macOS give to outgoing connections. Above, a client that keeps calling a
broker that is down is given the broker's own port some day, connects to itself, and the broker finds its port
taken."""

PATIENCE_SECONDS = 1
"""How long a port may stay taken by a process that is only just ending."""

_random = random.SystemRandom()  # pytest plugins seed the common one: two runs would choose the same ports


class PortChooser:
    """Chooses ports that are free now, none twice."""

    def __init__(self) -> None:
        self._chosen: set[int] = set()

    def exactly(self, port: int) -> int:
        """Take this port and no other.

        Raises:
            EmbeddedKafkaError: it can't be had.
        """
        if (obstacle := self._obstacle(port, PATIENCE_SECONDS)) is not None:
            raise EmbeddedKafkaError(
                f"port {port} of {HOST} can't be had ({os.strerror(obstacle)}): "
                f"stop what uses it, or ask for another one (0 for any that is free)."
            )
        self._chosen.add(port)
        return port

    def rather(self, port: int) -> int:
        """Take this port if it is free, else (or where it is 0) any other."""
        if not port or self._obstacle(port, PATIENCE_SECONDS) is not None:
            while self._obstacle(port := _random.choice(RANGE)) is not None:
                pass
        self._chosen.add(port)
        return port

    def _obstacle(self, port: int, patience_seconds: float = 0) -> int | None:
        """Return the error number that stands between us and the port, None where it is free."""
        give_up_at = time.monotonic() + patience_seconds
        while True:
            obstacle = errno.EADDRINUSE if port in self._chosen else _try_to_bind(port)
            if obstacle is None or time.monotonic() >= give_up_at:
                return obstacle
            time.sleep(0.05)


def _try_to_bind(port: int) -> int | None:
    with socket.socket() as probe:
        # As Java does it: connections that linger after their end do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno
        except OverflowError:  # past 65535
            return errno.EADDRNOTAVAIL
    return None
