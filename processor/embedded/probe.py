"""The one question that we put to a broker ourselves: how many brokers does the cluster count in?"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import ExitStack

from processor.embedded.ports import HOST

PATIENCE_SECONDS = 1
"""A broker that starts accepts connections before it answers."""

METADATA, METADATA_VERSION = 3, 1
CLIENT_ID = b"janela"
NO_TOPICS = struct.pack(">i", 0)


def count_brokers(port: int, tls: ssl.SSLContext | None = None) -> int:
    """Ask the broker at `port` how many brokers of its cluster are up and not fenced; 0 without an answer.

    A Metadata request without topics: header v1 (key, version, correlation id, client id), each way with its
    length before it. The answer begins with the correlation id, then comes the array of brokers.
    """
    header = struct.pack(">hhih", METADATA, METADATA_VERSION, 1, len(CLIENT_ID)) + CLIENT_ID
    request = header + NO_TOPICS
    try:
        with ExitStack() as stack:
            link = stack.enter_context(socket.create_connection((HOST, port), PATIENCE_SECONDS))
            if tls:
                link = stack.enter_context(tls.wrap_socket(link, server_hostname="localhost"))
            link.sendall(struct.pack(">i", len(request)) + request)
            answer = stack.enter_context(link.makefile("rb")).read(12)
            _length, _correlation, brokers = struct.unpack(">iii", answer)
    except (OSError, struct.error):  # not there yet, silent, or hung up half-way
        return 0
    return int(brokers)
