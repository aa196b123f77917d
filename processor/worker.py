"""The application for people who know Faust: ``faust -A processor.worker worker``."""

from processor.ops.instruments import Instruments
from processor.settings import Settings
from processor.stream.app import create_app

app = create_app(Settings.load(), Instruments())
