"""The Faust application as our settings make it."""

from typing import Any

import pytest

from processor.settings import Settings
from processor.stream.app import create_app


def test_no_variable_that_faust_reads_changes_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = create_app(Settings(bootstrap_servers="kafka:9092")).conf
    names = {variable: name for name in conf.setting_names() if (variable := conf.SETTINGS[name].env_name)}
    assert {"BROKER_URL", "APP_VERSION", "APP_WEB_ENABLED", "PROCESSING_GUARANTEE"} <= names.keys()
    as_set = {name: getattr(conf, name) for name in names.values()}
    for variable in names:
        monkeypatch.setenv(variable, "7")
    conf = create_app(Settings(bootstrap_servers="kafka:9092")).conf
    assert {name: getattr(conf, name) for name in names.values()} == as_set


async def test_what_waits_for_the_agent_stays_there_when_faust_resumes_a_second_time() -> None:
    app = create_app(Settings(bootstrap_servers="kafka:9092"))
    stream: Any = app.topic("anything").stream()
    queues = stream.channel.queue, stream.outbox
    app.flow_control.resume()
    for queue in queues:
        queue.put_nowait("a carrier")
    app.flow_control.resume()
    assert [queue.get_nowait() for queue in queues] == ["a carrier"] * 2
