"""Formatting: what `kafka-storage format` does, with its second of JVM paid once a machine."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from processor.embedded.errors import EmbeddedKafkaError
from processor.embedded.folder import Cluster
from processor.embedded.properties import LOG, kafka_id
from processor.embedded.runtime import Runtime
from processor.embedded.security import SCRAM

CHECKPOINT = "bootstrap.checkpoint"


def format_storage(
    runtime: Runtime,
    cluster: Cluster,
    folders: Sequence[Path],
    scram: Sequence[tuple[str, str]] = (),
    release: str | None = None,
) -> None:
    """Format the nodes' folders, which hold a `server.properties` each.

    Args:
        runtime: whose Kafka formats.
        cluster: whose nodes they are.
        folders: one for each node.
        scram: users and passwords that the cluster knows from its first moment (SCRAM, of both lengths).
        release: of Kafka, whose features it begins with; None: the newest that the brokers know.

    Raises:
        EmbeddedKafkaError: Kafka's own tool refused.
    """
    checkpoint = runtime.bootstrap_checkpoint
    is_own = bool(scram or release)  # users and old features are of one cluster, everything else of them all
    if is_own or not checkpoint.exists():
        checkpoint = _let_kafka_format(runtime, cluster.cluster_id, folders[0], scram, release)
        if not is_own:
            runtime.keep_checkpoint(checkpoint)
    for node, folder in enumerate(folders):
        log = folder / LOG
        log.mkdir(exist_ok=True)
        if checkpoint.parent != log:
            shutil.copy(checkpoint, log / CHECKPOINT)
        (log / "meta.properties").write_text(
            f"version=1\ncluster.id={cluster.cluster_id}\nnode.id={kafka_id(node)}\ndirectory.id={kafka_uuid()}\n"
        )


def kafka_uuid() -> str:
    """Make a random id as Kafka writes it; the first letter is no '-', which would look like an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _let_kafka_format(
    runtime: Runtime, cluster_id: str, folder: Path, scram: Sequence[tuple[str, str]], release: str | None
) -> Path:
    features = ["--release-version", release] if release else []
    users = [
        word
        for user, password in scram
        for mechanism in SCRAM
        for word in ("--add-scram", f"{mechanism}=[name={user},password={password}]")
    ]
    command = runtime.command(
        "kafka.tools.StorageTool",
        "format",
        "-t",
        cluster_id,
        "-c",
        "server.properties",
        "--ignore-formatted",
        *features,
        *users,
    )
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines() or ["nothing"]
        raise EmbeddedKafkaError(f"Kafka could not format {folder}; it said: {said[0]}")
    return folder / LOG / CHECKPOINT
