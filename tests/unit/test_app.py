"""The Faust application as our settings make it."""

import pytest

from processor.settings import Settings
from processor.stream.app import create_app


def test_no_variable_that_faust_reads_changes_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = create_app(Settings(bootstrap_servers="kafka:9092")).conf
    names = {conf.SETTINGS[name].env_name: name for name in conf.setting_names()}
    assert {"BROKER_URL", "APP_VERSION", "APP_WEB_ENABLED", "PROCESSING_GUARANTEE"} <= names.keys()
    as_set = {name: getattr(conf, name) for name in names.values()}
    for variable in filter(None, names):
        monkeypatch.setenv(variable, "7")
    conf = create_app(Settings(bootstrap_servers="kafka:9092")).conf
    assert {name: getattr(conf, name) for name in names.values()} == as_set
