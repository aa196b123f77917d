"""What says how to reach the cluster goes together, or a line for each thing that does not tells it, all at once."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from processor.cli.main import app, main
from processor.kafka.connection import Connection
from processor.settings import Settings, SettingsError
from processor.shown import MASK
from tests.certificates import Authority

SECRET = "hunter2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def lines_of(**given: Any) -> list[str]:
    """Give what is wrong with settings, without the words on what is allowed."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(**given)
    return [line.rpartition("; allowed: ")[0] for line in caught.value.lines]


def connection_of(**given: Any) -> Connection:
    return Settings.load(**given).connection


BY_PASSWORD: dict[str, Any] = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "bob", "sasl_password": SECRET}
BY_TOKEN = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "OAUTHBEARER",
    "oauth_token_url": "https://id.example/token",
    "oauth_client_id": "bob",
    "oauth_client_secret": SECRET,
}


# ------------------------------------------------------------------------------------------------- what goes together


def test_without_a_word_clients_come_in_the_clear_and_as_nobody() -> None:
    connection = connection_of()
    assert (connection.protocol, connection.tls, connection.login) == ("PLAINTEXT", None, None)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_goes_to_every_client_in_its_mechanism(mechanism: str) -> None:
    options = connection_of(**BY_PASSWORD, sasl_mechanism=mechanism).options()
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("bob", SECRET)
    credentials: Any = connection_of(**BY_PASSWORD, sasl_mechanism=mechanism).faust_credentials()
    assert (credentials.mechanism.value, credentials.username, credentials.password) == (mechanism, "bob", SECRET)
    assert credentials.protocol.value == options["security_protocol"] == "SASL_PLAINTEXT"


def test_a_secret_comes_from_the_environment_or_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    for name, value in {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_USERNAME": "bob"}.items():
        monkeypatch.setenv(f"JANELA_{name}", value)
    with monkeypatch.context() as patch:
        patch.setenv("JANELA_SASL_PASSWORD", SECRET)
        assert connection_of().options()["sasl_plain_password"] == SECRET
    monkeypatch.setenv("JANELA_SASL_PASSWORD_FILE", str(tmp_path / "password"))
    assert connection_of().options()["sasl_plain_password"] == SECRET


def test_a_file_that_the_settings_file_names_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/password").write_text(SECRET)
    (tmp_path / "etc/janela.toml").write_text(
        'security_protocol = "SASL_PLAINTEXT"\nsasl_username = "bob"\nsasl_password_file = "password"'
    )
    assert Settings.load(tmp_path / "etc/janela.toml").connection.options()["sasl_plain_password"] == SECRET


def test_tls_checks_the_hosts_name_unless_it_is_told_not_to(authority: Authority) -> None:
    trusted = {"security_protocol": "SSL", "ssl_ca_file": str(authority.certificate)}
    assert connection_of(**trusted).options()["ssl_context"].check_hostname
    context = connection_of(**trusted, ssl_check_hostname=False).options()["ssl_context"]
    assert not context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


def test_a_key_may_be_encrypted_or_lie_with_its_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.pair("bob")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(SECRET.encode()),
        )
    )
    tls = {"security_protocol": "SSL", "ssl_ca_file": str(authority.certificate)}
    assert connection_of(**tls, ssl_cert_file=str(both)).options()["ssl_context"]
    with_key = tls | {"ssl_cert_file": str(certificate), "ssl_key_file": str(encrypted)}
    assert connection_of(**with_key, ssl_key_password=SECRET).options()["ssl_context"]
    (line,) = lines_of(**with_key, ssl_key_password="wrong")
    assert line.startswith("JANELA_SSL_CERT_FILE (ssl_cert_file): ")
    assert "ssl_key_password" in line
    assert len(lines_of(**with_key)) == 1  # and nobody is asked at the terminal


def test_a_token_comes_from_an_endpoint_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc")
    assert connection_of(**BY_TOKEN).options()["sasl_mechanism"] == "OAUTHBEARER"
    kept = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}
    assert connection_of(**kept, oauth_token_file="token").options()["sasl_oauth_token_provider"]


# ----------------------------------------------------------------------------------------------------- what does not


SCRAM_NEEDS = "sasl_mechanism SCRAM-SHA-512 needs one"
OAUTH_NEEDS = "sasl_mechanism OAUTHBEARER needs"
OR_FILE = "or oauth_token_file"
IN_THE_CLEAR = "nothing uses it, as security_protocol PLAINTEXT has no"
HIDDEN = f"{MASK} (argument)"


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (
            {"security_protocol": "SASL_SSL"},
            {
                "sasl_username": ('"" (default)', SCRAM_NEEDS),
                "sasl_password": ("none (default)", f"{SCRAM_NEEDS}, here or in sasl_password_file"),
            },
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_username": "bob"},
            {
                "sasl_username": (
                    '"bob" (argument)',
                    "nothing uses it, as sasl_mechanism OAUTHBEARER has no password",
                ),
                "oauth_token_url": ('"" (default)', f"{OAUTH_NEEDS} it, {OR_FILE}"),
                "oauth_client_id": ('"" (default)', f"{OAUTH_NEEDS} one, {OR_FILE}"),
                "oauth_client_secret": (
                    "none (default)",
                    f"{OAUTH_NEEDS} one, here or in oauth_client_secret_file, {OR_FILE}",
                ),
            },
        ),
        (
            {"sasl_username": "bob", "sasl_password": SECRET, "ssl_ca_file": "ca.pem"},
            {
                "sasl_username": ('"bob" (argument)', f"{IN_THE_CLEAR} login"),
                "sasl_password": (HIDDEN, f"{IN_THE_CLEAR} login"),
                "ssl_ca_file": ('"ca.pem" (argument)', f"{IN_THE_CLEAR} TLS"),
            },
        ),
        (
            BY_PASSWORD | {"sasl_password_file": "nowhere"},
            {
                "sasl_password": (HIDDEN, "sasl_password_file says it as well: one of the two"),
                "sasl_password_file": ('"nowhere" (argument)', "No such file or directory"),
            },
        ),
        (BY_PASSWORD | {"sasl_mechanism": "GSSAPI"}, {"sasl_mechanism": ('"GSSAPI" (argument)',)}),
        ({"security_protocol": "TLS", "sasl_password": SECRET}, {"security_protocol": ('"TLS" (argument)',)}),
        (
            BY_TOKEN | {"oauth_token_url": "http://id.example/token"},
            {"oauth_token_url": ('"http://id.example/token" (argument)', "a secret goes there")},
        ),
    ],
)
def test_what_does_not_go_together_is_a_line_each_and_a_secret_is_in_none(
    given: dict[str, Any], wrong: dict[str, tuple[str, ...]]
) -> None:
    lines = lines_of(**given)
    assert lines == [f"JANELA_{name.upper()} ({name}): found {', '.join(told)}" for name, told in wrong.items()]
    assert SECRET not in "".join(lines)


@pytest.mark.parametrize("content", ["", "\n", "one\ntwo\n"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_text(content)
    given = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "bob", "sasl_password_file": "password"}
    (line,) = lines_of(**given)
    assert "lines where one is expected" in line


def test_files_that_can_not_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = authority.pair("bob")
    _, anothers_key = authority.pair("eve")
    (tmp_path / "not.pem").write_text("no certificate")
    ssl = {"security_protocol": "SSL"}
    (line,) = lines_of(**ssl, ssl_ca_file="nowhere.pem")
    assert line == 'JANELA_SSL_CA_FILE (ssl_ca_file): found "nowhere.pem" (argument), No such file or directory'
    (line,) = lines_of(**ssl, ssl_ca_file="not.pem")
    assert line.startswith('JANELA_SSL_CA_FILE (ssl_ca_file): found "not.pem" (argument), ')
    (line,) = lines_of(**ssl, ssl_cert_file=str(certificate))
    assert line == (
        "JANELA_SSL_KEY_FILE (ssl_key_file): found null (default), ssl_cert_file has a certificate and no key"
    )
    (line,) = lines_of(**ssl, ssl_cert_file=str(certificate), ssl_key_file=str(anothers_key))
    assert line.startswith("JANELA_SSL_CERT_FILE (ssl_cert_file): found ")
    assert "KEY_VALUES_MISMATCH" in line
    (line,) = lines_of(**ssl, ssl_key_file=str(anothers_key))
    assert "there is no ssl_cert_file that it belongs to" in line


def test_settings_made_in_a_program_are_held_to_the_same_when_they_are_used() -> None:
    settings = Settings(security_protocol="SASL_SSL", sasl_username="bob")
    with pytest.raises(SettingsError, match="sasl_password_file"):
        _ = settings.connection


def test_a_mistake_ends_a_worker_at_once_with_exit_code_2_and_goes_with_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "bob", "PARTITIONS": "0"}.items():
        monkeypatch.setenv(f"JANELA_{name}", value)
    with pytest.raises(SystemExit) as ended:
        main(["worker"])
    assert ended.value.code == 2
    assert [line.split(" ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "JANELA_PARTITIONS",
        "JANELA_SASL_PASSWORD",
    ]


# ---------------------------------------------------------------------------------------------------- what is shown


def test_no_secret_is_shown_by_config_or_by_the_values_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BY_TOKEN.items():
        monkeypatch.setenv(f"JANELA_{name.upper()}", value)
    told = ""
    for arguments in (["config"], ["config", "--explain"], ["config", "--json"]):
        told = CliRunner().invoke(app, arguments).output
        assert SECRET not in told
    assert json.loads(told)["settings"]["oauth_client_secret"]["value"] == MASK
    settings = Settings.load()
    assert SECRET not in f"{settings!r}{settings}{settings.connection!r}{settings.connection.faust_credentials()!r}"
    assert SECRET not in repr(Settings(**BY_PASSWORD).connection)


def test_a_connection_goes_through_a_pipe_with_its_secrets(authority: Authority) -> None:
    """A load of several processes gives it to each by its stdin."""
    certificate, key = authority.pair("bob")
    given = BY_PASSWORD | {"security_protocol": "SASL_SSL", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    connection = connection_of(**given)
    assert msgspec.json.decode(msgspec.json.encode(connection), type=Connection) == connection
