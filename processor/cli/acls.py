"""`janela topics acls`: the least rights that each party needs, made from the contract."""

import asyncio
import json
from typing import Annotated, Final

import typer

from processor import acls as rights
from processor.cli.config import BootstrapServers, ConfigFile, load_settings

EXAMPLES: Final = """Examples:

janela topics acls

janela topics acls --for platform --principal User:inbox --group inbox

janela topics acls --for worker --principal User:CN=janela --json

janela topics acls --for worker --principal User:janela --apply

Exit codes: 0 printed or granted; 2 settings, no broker, or the cluster refuses."""


def topics_acls(
    role: Annotated[
        str, typer.Option("--for", metavar="ROLE", help=f"Who is to have the rights: {', '.join(rights.ROLES)}.")
    ] = rights.WORKER,
    principal: Annotated[
        str | None,
        typer.Option(metavar="User:NAME", help="Kafka's name of it. Default: who logs in by these settings."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="The consumer group of who reads. Default: the role's name.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Grant them on the cluster: needs the right to alter the cluster.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Print what a party must be allowed on a cluster that denies by default, and nothing more.

    The worker's rights, and those of the contract's parties (platform, dispatcher, operations), follow from the files
    in schemas/. An auditor may verify, watch, archive and measure; an operator may create and check topics; a rebuilder
    may rebuild the state; a replayer may replay onto the topics of these settings.
    """
    if role not in rights.ROLES:
        expected = f"expected one of {', '.join(rights.ROLES)}"
        raise typer.BadParameter(f"found {role!r}, {expected}", param_hint="--for")
    settings = load_settings(config_file, bootstrap_servers)
    whom = principal or settings.principal or "User:janela"
    if not whom.startswith("User:") or whom == "User:":
        raise typer.BadParameter(f"found {whom!r}, expected User: and a name", param_hint="--principal")
    wanted = rights.acls(settings, role, group)
    if apply:
        asyncio.run(rights.grant(settings, wanted, whom))
    if as_json:
        print(json.dumps({"principal": whom, "acls": [acl._asdict() for acl in wanted]}, indent=2))
    elif apply:
        print(f"{whom} has {len(wanted)} rights as {role}")
    else:
        print(*rights.commands(wanted, whom, settings.bootstrap_servers), sep="\n")
