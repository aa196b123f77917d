"""`janela config`: what is in force, and where each value came from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from processor.settings import Settings

LINE_LETTERS: Final = 10_000
"""As wide as a row may get where nobody looks at a terminal."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file, instead of JANELA_CONFIG or ./janela.toml."),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", metavar="HOST:PORT", help="Brokers, instead of JANELA_BOOTSTRAP_SERVERS."),
]


def load_settings(
    config_file: Path | None, bootstrap_servers: str | None = None, topic_prefix: str | None = None
) -> "Settings":
    """Load the settings with what the command line says on top.

    Raises:
        SettingsError: As `Settings.load`.
    """
    from processor.settings import Settings

    said = {"bootstrap_servers": bootstrap_servers, "topic_prefix": topic_prefix}
    return Settings.load(config_file, **{name: value for name, value in said.items() if value is not None})


def config(
    config_file: ConfigFile = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each setting what it is for and what it takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
) -> None:
    """Show what is in force, settings and policy, and where each value came from.

    Secrets are masked. A setting that also is a word of the policy stands over the policy file. The policy is shown in
    the words of its file; what is not there has its default.

    Examples:
        janela config
        janela config --explain
        JANELA_CLOCK=event janela config --json

    Exit codes: 0 the settings can be used, 2 they can't (a line for each that is wrong, on stderr).
    """
    settings = load_settings(config_file)
    if as_json:
        print(json.dumps({"settings": _described(settings), "policy": _policy(settings)}, indent=2))
    else:
        _print_tables(settings, explain)


def _described(settings: "Settings") -> dict[str, dict[str, Any]]:
    from processor.settings import allowed, provenance, variable

    fields = type(settings).model_fields
    return {
        name: {
            "value": found.value,
            "source": found.source,
            "environment": variable(name),
            "allowed": allowed(fields[name]),
            "description": " ".join((fields[name].description or "").split()),
        }
        for name, found in provenance(settings).items()
    }


def _policy(settings: "Settings") -> dict[str, Any]:
    from processor.settings import policy_provenance

    words = {key: found._asdict() for key, found in policy_provenance(settings).items()}
    return {"version": settings.policy().version} | words


def _print_tables(settings: "Settings", explain: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    settings_table = Table(box=box.SIMPLE_HEAD, title="Settings", title_justify="left")
    for head in ("setting", "value", "from", *(["what for"] if explain else [])):
        settings_table.add_column(head, overflow="fold")
    for name, described in _described(settings).items():
        is_default = described["source"] == "default"
        cells = [name, _shown(described["value"]), described["source"]]
        if explain:
            cells.append(f"{described['description']} Takes {described['allowed']}.")
        settings_table.add_row(*map(Text, cells), style="dim" if is_default and not explain else None)

    policy_table = Table(box=box.SIMPLE_HEAD, title="Policy", title_justify="left")
    for head in ("policy", "value", "from"):
        policy_table.add_column(head, overflow="fold")
    version, *words = _policy(settings).items()
    policy_table.add_row(*map(Text, (*version, "name and digest of all below")))
    for name, found in words:
        style = "dim" if found["source"] == "default" else None
        policy_table.add_row(*map(Text, (name, _shown(found["value"]), found["source"])), style=style)

    console = Console()
    if not console.is_terminal:
        console.width = LINE_LETTERS  # a row is a line, so that grep finds it whole
    console.print(settings_table)
    console.print(policy_table)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
