"""`janela`: puts the verbs together, and gives an error that the operator can mend its lines and exit code.

A verb is imported when it is called for: `--help` waits for no client, a worker needs no embedded Kafka.
"""

import errno
import importlib
import inspect
import logging
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from processor import __version__
from processor.cli.early import UNTIL_STOPPED, begin
from processor.streams import escape_foreign, give_up_stdout, is_full, open_missing

FAILED: Final = 1
BY_CTRL_C: Final = 130
MENDABLE: Final = 2
"""Exit code where the operator has something to mend: an option, a setting, a topic, a broker."""

HELP: Final = """
Keep the reply window of each customer: messages in, window events and send verdicts out, exactly once.

On this machine, nothing else needed:
    janela up

On a cluster:
    janela topics apply
    janela worker
    janela watch

Settings come from JANELA_* in the environment, else from janela.toml; `janela config` shows them.

Exit codes: 0 done, 2 something to mend (said on stderr), 130 and 143 ended by Ctrl-C and by SIGTERM, where a verb
does not say otherwise, 1 anything else, such as an output that is full.
"""

VERBS: Final = {
    "up": "Run it all here: a Kafka, a worker and traffic, live.",
    "kafka": "Run the embedded Kafka alone, or for a command.",
    "topics": "Create the topics of the contract, check them, list them.",
    "worker": "Run a worker: keep windows, emit what happens.",
    "config": "Show what is in force, and where each value came from.",
    "watch": "Follow the output topics, a line for each event.",
    "verify": "Hold what is on the topics against the rules.",
    "archive": "Write a range of the input topics into a file.",
    "replay": "Put a range, or an archive, under another prefix.",
    "rebuild": "Make lost or damaged state anew from the inputs.",
    "send": "Put one event on an input topic, and say where it lies.",
    "load": "Put open-loop traffic on the input topics, from a seed.",
    "measure": "Put a load on what runs, and report latency, throughput, lag.",
}
"""What `janela --help` says of each verb; the verb is the function of its name in the module of its name."""


class Verbs(TyperGroup):
    """Lists the verbs from the table above, and imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Give the verb itself where it is one; what is none gets typer's own error, with a suggestion."""
        if args and args[0] in VERBS:
            verb = _verb(args[0])
            if args[0] not in UNTIL_STOPPED:
                begin()
            return args[0], verb, args[1:]
        return super().resolve_command(ctx, args)


def _verb(name: str) -> Any:
    module = importlib.import_module(f"processor.cli.{name}")
    app = getattr(module, f"{name}_app", None)  # a verb with verbs of its own is an app
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name)(getattr(module, name))
    app.rich_markup_mode = None
    if app.registered_callback:
        app.registered_callback.help = laid_out(inspect.getdoc(app.registered_callback.callback) or "")
    elif isinstance(app.info.help, str):
        app.info.help = laid_out(app.info.help)
    for command in app.registered_commands:
        command.help = laid_out(command.help or inspect.getdoc(command.callback) or "")
    return typer.main.get_command(app)


def laid_out(text: str) -> str:
    """Mark the paragraphs that have indented lines, so that `--help` does not fill them."""
    paragraphs = (each.removeprefix("\b\n") for each in inspect.cleandoc(text).split("\n\n"))
    return "\n\n".join(f"\b\n{each}" if "\n " in each else each for each in paragraphs)


app = typer.Typer(
    cls=Verbs,
    help=laid_out(HELP),
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # the traceback of a bug is for a log
    rich_markup_mode=None,  # a help in boxes takes a second to load
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb, sentence in VERBS.items():
    app.command(verb, help=sentence)(lambda: None)  # stands in the list


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"janela {__version__}")
        raise typer.Exit


@app.callback()
def janela(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


def main(arguments: list[str] | None = None) -> None:
    """Run `janela` and exit. `arguments` stand in for the process's own."""
    open_missing()
    escape_foreign()
    # the client logs each attempt to connect; where it fails in the end, we say so in one line
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        try:
            app(arguments, prog_name="janela")
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:  # between typer, which takes it for the whole of a verb, and the end
        sys.exit(BY_CTRL_C)
    except Exception as error:
        if isinstance(error, OSError) and is_full(error):
            give_up_stdout()
            if error.errno != errno.EPIPE:  # whoever turned away knows
                print(f"the output can't be written: {error.strerror}", file=sys.stderr)
            sys.exit(FAILED)
        lines = _lines_to_mend(error)
        if not lines:
            raise
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(MENDABLE)


def _lines_to_mend(error: Exception) -> list[str]:
    # where one of these was raised, its module is there already; elsewhere nobody waits for it
    from processor.settings import SettingsError
    from processor.topics import ClusterError

    if isinstance(error, SettingsError):
        return error.lines
    return [str(error)] if isinstance(error, ClusterError) else []
