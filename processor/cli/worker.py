"""``janela worker``: one worker in the foreground."""

import gc
import os
import signal
from typing import NoReturn

from processor.cli.config import BootstrapServers, ConfigFile, load_settings


def worker(bootstrap_servers: BootstrapServers = None, config_file: ConfigFile = None) -> NoReturn:
    """Run a worker: it joins the group, takes its share of the partitions, and commits exactly once.

    Stops on SIGTERM or Ctrl-C: finishes the transaction under way, leaves the group, and exits with 0.

    Examples:
      janela worker
      janela worker --config shop.toml
      JANELA_CLOCK=event JANELA_EMIT_ACCEPTED=false janela worker

    Exit codes:
      0  stopped as asked
      2  refused to run: settings, brokers, topics, a committed state that needs a person; or no broker answered in time
      3  could not go on (a transaction failed, the instance was fenced, a bug): start it again
      4  stuck: had input and committed nothing for JANELA_WATCHDOG_SECONDS
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until there is something to finish
    gc.disable()  # the imports leave little to collect, and it would be looked for all the time
    settings = load_settings(config_file, bootstrap_servers)
    from processor.ops.instruments import Instruments  # half a second of imports, for this verb alone
    from processor.stream.app import create_app

    gc.enable()
    app = create_app(settings, Instruments())
    try:
        app.Worker(loglevel="WARN", quiet=True).execute_from_commandline()
    except SystemExit as ended:
        os._exit(int(ended.code or 0))  # Python would wait for a name server that does not answer
