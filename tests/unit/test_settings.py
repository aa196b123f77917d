"""Settings: which source wins, what is refused, and that all of it is told at once."""

import json
import os
from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from processor.access import Access
from processor.core.policy import HOUR_MS, SECOND_MS, Policy
from processor.policy_file import load_policy
from processor.settings import Settings, SettingsError, allowed, provenance, variable, without_login
from processor.shown import MASK

pytestmark = pytest.mark.usefixtures("nothing_set")


def lines_of(toml: str = "", cls: type[Settings] = Settings) -> list[str]:
    """Give the lines of the error that these settings end in."""
    Path("janela.toml").write_text(toml, "utf-8")
    with pytest.raises(SettingsError) as caught:
        cls.load()
    assert str(caught.value) == "\n".join(caught.value.lines)
    return caught.value.lines


def test_without_a_source_the_defaults_hold() -> None:
    settings = Settings.load()
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert (settings.app_id, settings.topic_prefix, settings.partitions) == ("janela", "", 12)
    assert (settings.clock, settings.enforcement, settings.emit_accepted) == ("live", "enforce", True)
    assert settings.instance_id.endswith(f"-{os.getpid()}")
    assert {each.source for each in provenance(settings).values()} == {"default"}


def test_the_defaults_of_the_settings_and_of_the_policy_agree() -> None:
    settings = Settings()
    assert settings.policy() == Policy()
    assert settings.expiring_before_ms == Policy().expiring_before_ms
    assert settings.effects_from_ms == Policy().effects_from_ms
    assert (settings.enforcement, settings.emit_accepted) == (Policy().enforcement, Policy().emit_accepted)


def test_an_argument_wins_over_the_environment_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("janela.toml").write_text('app_id = "file"\npartitions = 3\ntopic_prefix = "file."', "utf-8")
    monkeypatch.setenv("JANELA_PARTITIONS", "4")
    monkeypatch.setenv("JANELA_TOPIC_PREFIX", "environment.")
    settings = Settings.load(topic_prefix="argument.")
    found = provenance(settings)
    assert found["clock"] == ("live", "default")
    assert found["app_id"] == ("file", "file janela.toml")
    assert found["partitions"] == (4, "environment JANELA_PARTITIONS")
    assert found["topic_prefix"] == ("argument.", "argument")


def test_the_file_is_the_argument_else_what_janela_config_names_else_the_one_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("janela", "named", "given"):
        Path(f"{name}.toml").write_text(f'app_id = "{name}"', "utf-8")
    assert Settings.load().app_id == "janela"
    monkeypatch.setenv("JANELA_CONFIG", "named.toml")
    assert Settings.load().app_id == "named"
    assert Settings.load(tmp_path / "given.toml").app_id == "given"


def test_the_way_to_a_cluster_without_login_stands_over_what_a_file_says_of_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    another = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "x",
        "ssl_check_hostname": False, "topic_prefix": "file.",
    }  # fmt: skip
    Path("janela.toml").write_text("\n".join(f"{name} = {json.dumps(it)}" for name, it in another.items()), "utf-8")
    assert Settings.load().security_protocol == "SASL_SSL"
    for name, value in without_login("127.0.0.1:1234").items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    ours = dict(Access(bootstrap_servers="127.0.0.1:1234"))
    assert {name: getattr(settings, name) for name in ours} == ours
    assert settings.topic_prefix == "file."


def test_a_value_given_by_hand_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANELA_PARTITIONS", "4")
    Path("janela.toml").write_text('app_id = "file"', "utf-8")
    settings = Settings(clock="event")
    assert (settings.partitions, settings.app_id, settings.clock) == (12, "janela", "event")


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().partitions = 3


def test_all_errors_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANELA_CLOCK", "now")
    monkeypatch.setenv("JANELA_PARTITION", "3")
    monkeypatch.setenv("JANELA_BATCH_RECORDS_MAX", "40000")
    lines = lines_of('partitions = 0\nenforcment = "observe"\npolicy_file = "away.toml"')
    assert [line.split(" ")[0] for line in lines] == [
        "JANELA_PARTITION",
        "enforcment",
        "JANELA_PARTITIONS",
        "JANELA_CLOCK",
        "JANELA_BUFFER_RECORDS_MAX",
        "JANELA_POLICY_FILE",
    ]


def test_a_line_names_both_spellings_the_value_its_source_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JANELA_CLOCK", "now")
    lines = lines_of("partitions = 0")
    assert lines == [
        "JANELA_PARTITIONS (partitions): found 0 (file janela.toml); allowed: a whole number from 1 to 1024",
        'JANELA_CLOCK (clock): found "now" (environment JANELA_CLOCK); allowed: "live" or "event"',
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("JANELA_BOOTSTRAP_SERVER", "JANELA_BOOTSTRAP_SERVERS"), ("JANELA_TOPICPREFIX", "JANELA_TOPIC_PREFIX")],
)
def test_an_unknown_variable_is_an_error_that_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "hunter2")
    assert lines_of() == [f"{name} (environment): no setting has this name; did you mean {meant}?"]


@pytest.mark.parametrize("name", ["janela_partitions", "Janela_Partitions"])
def test_a_variable_has_one_spelling_so_that_none_stands_over_another_unseen(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("JANELA_PARTITIONS", "5")
    monkeypatch.setenv(name, "7")
    assert lines_of() == [f"{name} (environment): no setting has this name; did you mean JANELA_PARTITIONS?"]


def test_an_unknown_key_is_an_error_that_does_not_show_what_may_be_a_secret() -> None:
    assert lines_of('zookeeper = "hunter2"\n"partitons" = 4') == [
        "partitons (file janela.toml): no setting has this name; did you mean partitions?",
        "zookeeper (file janela.toml): no setting has this name",
    ]


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "JANELA_JAVA": "/opt/java",
        "JANELA_SERVICE_HOST": "10.0.0.1",
        "JANELA_SERVICE_PORT_METRICS": "80",
        "JANELA_PORT": "tcp://10.0.0.1:80",
        "JANELA_PORT_80_TCP_ADDR": "10.0.0.1",
        "JANELA_WORKER_SERVICE_HOST": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == Settings(instance_id=Settings.load().instance_id)
    monkeypatch.setenv("JANELA_PORT", "80")
    assert lines_of() == ["JANELA_PORT (environment): no setting has this name"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"partitions = ", "not TOML: Invalid value"), (b'app_id = "\xff"', "not UTF-8 at byte 10")],
)
def test_a_file_that_can_not_be_read_is_one_line_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    Path("janela.toml").write_bytes(content)
    monkeypatch.setenv("JANELA_PARTITIONS", "many")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    first, second = caught.value.lines
    assert first.startswith(f'JANELA_CONFIG: found "janela.toml" (default), {reason}')
    assert second.startswith('JANELA_PARTITIONS (partitions): found "many"')


def test_a_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANELA_CONFIG", "away.toml")
    assert "(environment JANELA_CONFIG), No such file" in lines_of()[0]
    with pytest.raises(SettingsError, match=r"\(argument\), No such file"):
        Settings.load("elsewhere.toml")


@pytest.mark.parametrize(
    ("text", "thresholds_ms"),
    [
        ("2h", (2 * HOUR_MS,)),
        ("90m", (90 * 60 * SECOND_MS,)),
        ("45s", (45 * SECOND_MS,)),
        ("15m, 4h,1h", (4 * HOUR_MS, HOUR_MS, 15 * 60 * SECOND_MS)),
        ("86399s", (86_399 * SECOND_MS,)),
    ],
)
def test_thresholds_are_durations_and_come_longest_first(text: str, thresholds_ms: tuple[int, ...]) -> None:
    """E1"""
    assert Settings(expiring_before=text).expiring_before_ms == thresholds_ms
    assert Settings(expiring_before=text).policy().expiring_before_ms == thresholds_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "h",
        "0h",
        "-1h",
        "1.5h",
        "2H",
        "2 h",
        "2h,",
        "1h30m",
        "1d",
        "24h",
        "86400s",
        "60m,1h",
        "٢h",
        ",".join(f"{minute}m" for minute in range(1, 10)),
    ],
)
def test_anything_else_is_no_threshold(text: str) -> None:
    """E1"""
    (line,) = lines_of(f"expiring_before = {json.dumps(text, ensure_ascii=False)}")
    assert line.startswith("JANELA_EXPIRING_BEFORE (expiring_before): found ")
    assert line.endswith('such as "2h" or "4h,1h,15m"')


@pytest.mark.parametrize(
    "toml",
    [
        '"2026-11-22T18:47:19Z"',
        '"2026-11-22T15:47:19-03:00"',
        "2026-11-22T18:47:19Z",
        "2026-11-22T15:47:19-03:00",
    ],
)
def test_effects_from_is_a_moment_as_text_or_as_a_time_of_toml(toml: str) -> None:
    Path("janela.toml").write_text(f"effects_from = {toml}", "utf-8")
    settings = Settings.load()
    assert settings.effects_from_ms == 1_795_373_239_000
    assert settings.policy().effects_from_ms == 1_795_373_239_000


@pytest.mark.parametrize("toml", ['"1795373239"', "1795373239", '"2026-11-22"', "2026-11-22T18:47:19", "true"])
def test_effects_from_without_a_zone_is_refused(toml: str) -> None:
    (line,) = lines_of(f"effects_from = {toml}")
    assert "not a time with a zone" in line


@pytest.mark.parametrize(
    ("toml", "name"),
    [
        ("partitions = 1025", "partitions"),
        ("partitions = true", "partitions"),
        ('partitions = "1.5"', "partitions"),
        ("dead_letter_flood_share = 0", "dead_letter_flood_share"),
        ("dead_letter_flood_share = nan", "dead_letter_flood_share"),
        ("dead_letter_flood_share = true", "dead_letter_flood_share"),
        ("commit_interval_ms = 4", "commit_interval_ms"),
        ("commit_interval_ms = 1001", "commit_interval_ms"),
        ("session_timeout_ms = 5999", "session_timeout_ms"),
        ("transaction_timeout_ms = 60001", "transaction_timeout_ms"),
        ("batch_records_max = 40000", "buffer_records_max"),
        ("watchdog_seconds = 10", "watchdog_seconds"),
        ('topic_prefix = "acme/"', "topic_prefix"),
        ('topic_prefix = "acme\\n"', "topic_prefix"),
        (f'topic_prefix = "{"a" * 201}"', "topic_prefix"),
        ('app_id = ""', "app_id"),
        ('instance_id = "a b"', "instance_id"),
        ("app_id = 7", "app_id"),
        ('emit_accepted = "perhaps"', "emit_accepted"),
        ('bootstrap_servers = "localhost"', "bootstrap_servers"),
        ('bootstrap_servers = "localhost:0"', "bootstrap_servers"),
        ('bootstrap_servers = "a:9092,,b:9092"', "bootstrap_servers"),
        ('bootstrap_servers = "kafka://a:9092"', "bootstrap_servers"),
        ("policy_file = 7", "policy_file"),
    ],
)
def test_a_value_out_of_bounds_is_one_line_for_its_setting(toml: str, name: str) -> None:
    (line,) = lines_of(toml)
    assert line.startswith(f"{variable(name)} ({name}): found ")
    assert line.endswith(f"; allowed: {allowed(Settings.model_fields[name])}")


@pytest.mark.parametrize("servers", ["a:9092", "a.b-c:1, 10.0.0.1:65535", "[::1]:9092"])
def test_brokers_are_host_and_port(servers: str) -> None:
    assert Settings(bootstrap_servers=servers).bootstrap_servers == servers


def test_a_contradiction_is_told_of_the_setting_that_gives_way() -> None:
    (line,) = lines_of("transaction_timeout_ms = 60000")
    assert "found 60 (default), not longer than transaction_timeout_ms, 60000 ms; allowed:" in line


def test_a_static_member_needs_a_name_that_stays_and_verbs_that_join_no_group_need_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JANELA_MEMBERSHIP", "static")
    with pytest.raises(SettingsError) as caught:
        _ = Settings.load().group_instance_id
    (line,) = caught.value.lines
    assert line.startswith(
        'JANELA_MEMBERSHIP (membership): found "static" (environment JANELA_MEMBERSHIP), instance_id is'
    )
    assert Settings.load(instance_id="a").group_instance_id == "a"
    assert Settings.load(instance_id="a", membership="dynamic").group_instance_id is None


@pytest.mark.parametrize("name", ["clock", "expiring_before", "bootstrap_servers", "ops_address"])
def test_a_long_value_is_cut_in_its_line_and_in_the_reason(name: str) -> None:
    (line,) = lines_of(f'{name} = "{"7" * 5000}"')
    assert len(line) < 400


class _Secured(Settings):
    broker_password: SecretStr | None = Field(default=None, min_length=12)


def test_a_secret_is_masked_wherever_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANELA_BROKER_PASSWORD", "correct horse battery")
    settings = _Secured.load()
    assert settings.broker_password is not None
    assert settings.broker_password.get_secret_value() == "correct horse battery"
    assert provenance(settings)["broker_password"] == (MASK, "environment JANELA_BROKER_PASSWORD")
    monkeypatch.setenv("JANELA_BROKER_PASSWORD", "hunter2")
    (line,) = lines_of(cls=_Secured)
    assert f"found {MASK} (environment JANELA_BROKER_PASSWORD)" in line
    assert "hunter2" not in line
    with pytest.raises(ValidationError) as caught:
        _Secured(broker_password=SecretStr("hunter2"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://bob:hunter2@id.example/token",
        "https://hunter2@id.example/token",
        "https://bob:hunter2/x@id.example/token",
        "https://bob:hunter2@@id.example/token",
        "bob:hunter2@id.example/token",
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_and_the_secret_shown_nowhere(url: str) -> None:
    line, *_ = lines_of(f"oauth_token_url = {json.dumps(url)}")
    assert line.startswith("JANELA_OAUTH_TOKEN_URL (oauth_token_url): found ")
    assert f"{MASK}@" in line
    assert "hunter2" not in line
    line, *_ = lines_of(f"bootstrap_servers = {json.dumps(url)}")
    assert f"{MASK}@" in line
    assert "hunter2" not in line


def test_of_an_address_with_a_secret_in_it_the_line_says_where_to_put_that() -> None:
    (line, *_) = lines_of('oauth_token_url = "https://bob:hunter2@id.example/token"')
    assert "put it in oauth_client_id and oauth_client_secret" in line


def test_a_secret_in_a_value_that_is_taken_is_masked_all_the_same() -> None:
    secret = Settings.model_construct(oauth_token_url="https://bob:hunter2@id.example/x", expiring_before="2h")
    assert provenance(secret)["oauth_token_url"].value == f"https://{MASK}@id.example/x"


def test_settings_that_are_set_stand_over_the_policy_file_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = 'expiring_before = ["4h", "1h"]\nenforcement = "observe"\nreactions_open = true'
    Path("policy.toml").write_text(text, "utf-8")
    monkeypatch.setenv("JANELA_POLICY_FILE", "policy.toml")
    settings = Settings.load()
    assert settings.policy() == load_policy(text)
    assert provenance(settings)["expiring_before"] == ("4h,1h", "file policy.toml")
    assert provenance(settings)["emit_accepted"] == (True, "default")

    monkeypatch.setenv("JANELA_EXPIRING_BEFORE", "2h")
    monkeypatch.setenv("JANELA_EMIT_ACCEPTED", "false")
    settings = Settings.load()
    expected = load_policy(text, expiring_before_ms=(2 * HOUR_MS,), emit_accepted=False)
    assert settings.policy() == expected
    assert provenance(settings)["expiring_before"] == ("2h", "environment JANELA_EXPIRING_BEFORE")


def test_the_path_of_a_policy_in_the_file_is_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "etc").mkdir()
    (folder / "janela.toml").write_text('policy_file = "policy.toml"', "utf-8")
    (folder / "policy.toml").write_text('name = "shop"', "utf-8")
    assert Settings.load(folder / "janela.toml").policy().name == "shop"
    monkeypatch.setenv("JANELA_POLICY_FILE", "")
    assert Settings.load(folder / "janela.toml").policy().name == "default"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "reactions_opens = true",
            "reactions_opens (file policy.toml): no policy has this key; did you mean ",
        ),
        ('closed_retention = "1x"', "closed_retention (file policy.toml): found \"1x\", '1x' is not a duration; allow"),
        ('closed_retention = "1h"', 'closed_retention (file policy.toml): found "1h", shorter than the longest window'),
        ("name =", 'JANELA_POLICY_FILE (policy_file): found "policy.toml" (file janela.toml), not TOML: '),
    ],
)
def test_a_policy_that_can_not_be_used_is_a_line_of_its_key_and_file(text: str, told: str) -> None:
    Path("policy.toml").write_text(text, "utf-8")
    (line,) = lines_of('policy_file = "policy.toml"')
    assert line.startswith(told)


def test_all_that_is_wrong_with_a_policy_is_told_with_what_is_wrong_with_settings() -> None:
    Path("policy.toml").write_text('nam = "x"\nsafety_margin = "25h"', "utf-8")
    lines = lines_of('policy_file = "policy.toml"\npartitions = 0')
    assert [line.split(" ")[0] for line in lines] == ["JANELA_PARTITIONS", "nam", "safety_margin"]


def test_a_setting_that_contradicts_the_policy_is_to_blame_where_it_stands_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("policy.toml").write_text('window.default = "3h"\nexpiring_before = ["1h"]', "utf-8")
    monkeypatch.setenv("JANELA_EXPIRING_BEFORE", "4h")
    (line,) = lines_of('policy_file = "policy.toml"')
    assert line.startswith(
        'JANELA_EXPIRING_BEFORE (expiring_before): found "4h" (environment JANELA_EXPIRING_BEFORE), not shorter than'
        " the shortest window, 3h (file policy.toml); allowed: "
    )


def test_every_setting_has_a_sentence_that_gives_the_reason_of_its_default() -> None:
    for name, field in Settings.model_fields.items():
        assert "Default: " in (field.description or ""), name
        assert allowed(field), name
