"""`janela topics`: create the contract's topics, check them, list them, say who needs which rights.

Exit codes of all three verbs: 0 fine, 1 warnings where ``--strict`` asks for none, 2 errors. A table is for a
terminal; elsewhere each row is a line, so that grep finds it whole.
"""

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from processor import contract, features, topics
from processor.cli.acls import EXAMPLES, topics_acls
from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.settings import Settings, SettingsError

FINE: Final = 0
WARNINGS: Final = 1
ERRORS: Final = 2

_HELP: Final = """Create the topics of the contract, check them, list them, say who needs which rights.

Examples:
    janela topics apply
    janela topics check --strict
    janela topics list --json
    janela topics acls --for dispatcher

Exit codes: 0 fine, 1 warnings with --strict, 2 errors, a setting wrong, or no broker.
"""

topics_app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 where there are warnings.")]

_EXIT_CODES = "Exit codes: 0 fine, 1 warnings with --strict, 2 errors, or no broker."
_APPLY_EXAMPLES = f"""Examples:

janela topics apply

JANELA_TOPIC_PREFIX=acme. JANELA_PARTITIONS=24 janela topics apply

janela topics apply --replication-factor 3 --strict

{_EXIT_CODES}"""
_CHECK_HELP = (
    "Say what on the cluster is not as the contract wants it, and how to mend it.\n\n"
    "Errors stop a worker from starting: brokers that can't do what exactly-once rests on, a topic that is missing,"
    " a wrong number of partitions, topics that are not co-partitioned, state that is not compacted. Warnings do not:"
    " records that go too early, input times that are not the broker's, too few copies, Kafka's own topics included."
)
_CHECK_EXAMPLES = f"""Examples:

janela topics check

janela topics check --strict --json | jq .problems

{_EXIT_CODES}"""
_LIST_EXAMPLES = """Examples:

janela topics list

janela topics list --json | jq -r '.topics[] | select(.exists) | .name'

Exit codes: 0 fine, also where topics are missing; 2 no broker."""
_Result = TypeVar("_Result")


topics_app.command("acls", epilog=EXAMPLES)(topics_acls)


@topics_app.command("apply", epilog=_APPLY_EXAMPLES)
def apply_topics(
    replication_factor: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each new topic. Default: one a broker, at most 3.", show_default=False),
    ] = None,
    as_json: Json = False,
    strict: Strict = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Create the topics that are missing, then check all of them. A topic that exists is never altered."""
    settings = _settings(config_file, bootstrap_servers)
    applied = _ask(topics.apply(settings, replication_factor=replication_factor))
    found = _ask(_problems(settings))
    if as_json:
        _print_json({"created": applied.created, "kept": applied.kept, **_counted(found)})
    else:
        rows = [(name, "created") for name in applied.created] + [(name, "kept") for name in applied.kept]
        _print_table(("topic", "what was done"), rows)
        _print_problems(found)
    _leave(found, strict)


@topics_app.command("check", help=_CHECK_HELP, epilog=_CHECK_EXAMPLES)
def check_topics(
    as_json: Json = False,
    strict: Strict = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Say what is wrong with the topics on the cluster."""
    settings = _settings(config_file, bootstrap_servers)
    found = _ask(_problems(settings))
    if as_json:
        _print_json({"bootstrap_servers": settings.bootstrap_servers, **_counted(found)})
    else:
        _print_problems(found)
        if not found:
            _console().print(f"all topics are as the contract wants them ({settings.bootstrap_servers})")
    _leave(found, strict)


@topics_app.command("list", epilog=_LIST_EXAMPLES)
def list_topics(
    as_json: Json = False, bootstrap_servers: BootstrapServers = None, config_file: ConfigFile = None
) -> None:
    """List the topics of the contract as they are on the cluster."""
    settings = _settings(config_file, bootstrap_servers)
    cluster = _ask(topics.survey(settings))
    rows = [_row(topic, settings, cluster) for topic in contract.topics()]
    if as_json:
        _print_json({"brokers": cluster.brokers, "topics": rows})
        return
    columns = ("name", "partitions", "copies", "cleanup", "description")
    _print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


async def _problems(settings: Settings) -> list[topics.Problem]:
    return [*await features.problems(settings), *await topics.check(settings)]


def _row(topic: contract.TopicSpecification, settings: Settings, cluster: topics.Cluster) -> dict[str, Any]:
    """Describe one topic; what is not known of it, or not there, is null."""
    name = topics.names(settings)[topic.name]
    found = cluster.topics.get(name)
    configuration = found.configuration if found else {}
    return {
        "name": name,
        "role": topic.role,
        "exists": found is not None,
        "partitions": found.partitions if found else None,
        "copies": found.replication_factor if found else None,
        "cleanup": configuration.get("cleanup.policy"),
        "configuration": {
            key: {"found": configuration.get(key), "contract": wanted} for key, wanted in topic.configuration.items()
        },
        "description": topic.description,
    }


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _settings(config_file: Path | None, bootstrap_servers: str | None) -> Settings:
    try:
        return load_settings(config_file, bootstrap_servers)
    except SettingsError as error:
        for line in error.lines:
            typer.echo(line, err=True)
        raise typer.Exit(ERRORS) from None


def _ask(question: Coroutine[Any, Any, _Result]) -> _Result:
    """Wait for the cluster's answer; where it gives none, say why in one line and leave."""
    try:
        with _quiet_client():
            return asyncio.run(question)
    except topics.ClusterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(ERRORS) from None


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep aiokafka from logging each attempt to connect; the error that it raises says it once."""
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _counted(found: Sequence[topics.Problem]) -> dict[str, Any]:
    errors = sum(problem.severity == "error" for problem in found)
    return {
        "errors": errors,
        "warnings": len(found) - errors,
        "problems": [asdict(problem) for problem in found],
    }


def _leave(found: Sequence[topics.Problem], strict: bool) -> None:
    if any(problem.severity == "error" for problem in found):
        raise typer.Exit(ERRORS)
    raise typer.Exit(WARNINGS if found and strict else FINE)


def _print_json(answer: dict[str, Any]) -> None:
    typer.echo(json.dumps(answer, indent=2))


def _print_problems(found: Sequence[topics.Problem]) -> None:
    if not found:
        return
    if not _console().is_terminal:
        for problem in found:
            typer.echo(str(problem))
        return
    columns = ("severity", "topic", "what", "found", "expected", "remedy")
    _print_table(columns, [[getattr(problem, column) for column in columns] for problem in found])


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    console = _console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row, style={"error": "red", "warning": "yellow"}.get(row[0]))
    console.print(table)


def _console() -> Console:
    """Make a console anew, so that it writes to the standard output of this moment."""
    return Console(markup=False, highlight=False)
