"""The application for people who know Faust: ``faust -A processor.worker worker``."""

import sys

from processor.ops.instruments import Instruments
from processor.settings import Settings, SettingsError
from processor.stream.app import create_app
from processor.stream.engine import EXIT_REFUSED
from processor.streams import open_missing

open_missing()
try:
    app = create_app(Settings.load(), Instruments())
except SettingsError as error:
    sys.stderr.writelines(f"{line}\n" for line in error.lines)
    sys.exit(EXIT_REFUSED)
