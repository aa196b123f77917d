"""The settings that say how to reach the cluster, and as whom; what `Settings` has beside the worker's own.

Each is checked by itself as any setting is. Whether they go together, and whether the files that they name are of use,
is told by `faults`: all that is wrong at once, before anything is connected.
"""

import re
import ssl
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from processor.kafka.security import ClientCredentials, Login, Mechanism, Password, Tls, TokenFile, read_secret
from processor.shown import masked, shortened

if TYPE_CHECKING:
    from processor.kafka.connection import Connection

_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\]):(\d{1,5})")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

PASSWORD = ("sasl_username", "sasl_password", "sasl_password_file")
OAUTH = (
    "oauth_token_url", "oauth_client_id", "oauth_client_secret", "oauth_client_secret_file", "oauth_scope",
    "oauth_token_file",
)  # fmt: skip
TLS = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file", "ssl_key_password", "ssl_key_password_file")
SECRETS = ("sasl_password", "oauth_client_secret", "ssl_key_password")
"""Each may stand in a file instead, which the setting of that name and ``_file`` names."""


class Allowed(NamedTuple):
    """Says in words what a field takes, where its type and bounds don't."""

    words: str


class Fault(NamedTuple):
    """What is wrong with a setting, though its value is of the right kind."""

    name: str
    reason: str


def servers(value: str) -> str:
    """Take ``host:port``, or several with commas between.

    Raises:
        ValueError: One of them is something else.
    """
    for server in value.split(","):
        match = _BROKER.fullmatch(server.strip())
        if match is None or not 0 < int(match[1]) <= 65535:
            raise ValueError(f"{shortened(masked(repr(server.strip())))} is not host:port")
    return value


def no_path(value: Any) -> Any:
    """Take an empty text as no path at all."""
    return None if value == "" else value


def _no_secret(value: Any) -> Any:
    return None if value == "" else value


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("not a URL") from None  # its own words would quote what may be a part of a password
    if "@" in parts.netloc:
        raise ValueError("a secret would be shown with it: put it in oauth_client_id and oauth_client_secret")
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if value and not (is_safe and parts.hostname):
        raise ValueError("a secret goes there")
    return value


Servers = Annotated[str, AfterValidator(servers), Allowed("host:port, or several with commas between")]
Secret = Annotated[SecretStr | None, BeforeValidator(_no_secret), Allowed("text, which is never shown")]
SecretFile = Annotated[Path | None, BeforeValidator(no_path), Allowed("the path of a file with one line, the secret")]
PemFile = Annotated[Path | None, BeforeValidator(no_path), Allowed("the path of a PEM file")]
Endpoint = Annotated[str, AfterValidator(_endpoint), Allowed("an https:// URL (http:// on this machine), or empty")]


class Access(BaseModel):
    """How to reach the cluster, and as whom."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    bootstrap_servers: Servers = "127.0.0.1:9092"
    """Kafka brokers to ask first. Default: a broker on this machine, such as that of `janela kafka`."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How every client speaks to the brokers: SSL with TLS, SASL with a login. Default: Kafka's own."""
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    """How to log in, where the protocol has SASL. Default: the strongest that Kafka has for passwords."""
    sasl_username: str = ""
    """Who logs in by PLAIN or SCRAM. Default: nobody."""
    sasl_password: Secret = None
    """The password of sasl_username. Default: none, or what the file has."""
    sasl_password_file: SecretFile = None
    """A file with that password, in its place. Default: none."""
    oauth_token_url: Endpoint = ""
    """Where OAUTHBEARER fetches tokens by client credentials (RFC 6749). Default: nowhere."""
    oauth_client_id: str = ""
    """Who fetches them. Default: nobody."""
    oauth_client_secret: Secret = None
    """The secret of oauth_client_id. Default: none, or what the file has."""
    oauth_client_secret_file: SecretFile = None
    """A file with that secret, in its place. Default: none."""
    oauth_scope: str = ""
    """The scope to ask for. Default: what the endpoint gives without."""
    oauth_token_file: SecretFile = None
    """A file with a token that somebody else keeps valid, in place of the URL; read at each connect. Default: none."""
    ssl_ca_file: PemFile = None
    """Certificates (PEM) of whom we trust. Default: whom this machine trusts."""
    ssl_cert_file: PemFile = None
    """Our own certificate (PEM), with its chain, for brokers that ask for one. Default: none."""
    ssl_key_file: PemFile = None
    """The key (PEM) of that certificate. Default: it is in ssl_cert_file."""
    ssl_key_password: Secret = None
    """What the key is encrypted with. Default: it is not, or the file has it."""
    ssl_key_password_file: SecretFile = None
    """A file with that password, in its place. Default: none."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must name the host that was asked for. Default: else anyone whom the same
    authority has certified could stand for a broker."""

    @property
    def has_tls(self) -> bool:
        """Whether the protocol has TLS."""
        return self.security_protocol.endswith("SSL")

    @property
    def has_login(self) -> bool:
        """Whether the protocol has SASL."""
        return self.security_protocol.startswith("SASL")

    @property
    def principal(self) -> str:
        """Whom the brokers know us as, as far as settings tell; empty where a certificate or a token does."""
        by_password = self.has_login and self.sasl_mechanism != "OAUTHBEARER"
        return f"User:{self.sasl_username}" if by_password else ""

    def secret(self, name: str) -> str:
        """Give a secret, from the file where there is one; empty where there is none.

        Raises:
            OSError: The file can't be read.
            ValueError: There is no secret in it.
        """
        path: Path | None = getattr(self, f"{name}_file")
        value: SecretStr | None = getattr(self, name)
        return read_secret(path) if path else value.get_secret_value() if value else ""

    def tls(self) -> Tls:
        """Give what the clients need for TLS.

        Raises:
            OSError: The file of the key's password can't be read.
            ValueError: There is no password in it.
        """
        return Tls(
            ca_file=_text(self.ssl_ca_file),
            cert_file=_text(self.ssl_cert_file),
            key_file=_text(self.ssl_key_file),
            key_password=self.secret("ssl_key_password"),
            check_hostname=self.ssl_check_hostname,
        )

    def login(self) -> Login:
        """Give what the clients need for SASL.

        Raises:
            OSError: The file of a secret can't be read.
            ValueError: There is no secret in it.
        """
        if self.sasl_mechanism != "OAUTHBEARER":
            return Password(self.sasl_mechanism, self.sasl_username, self.secret("sasl_password"))
        if self.oauth_token_file:
            return TokenFile(str(self.oauth_token_file))
        secret = self.secret("oauth_client_secret")
        return ClientCredentials(self.oauth_token_url, self.oauth_client_id, secret, self.oauth_scope)

    def connect_with(self) -> "Connection":
        """Give what every client is made from; `faults` must have found nothing."""
        from processor.kafka.connection import Connection  # 0.2 s of imports, for whoever connects

        tls = self.tls() if self.has_tls else None
        return Connection(self.bootstrap_servers, tls, self.login() if self.has_login else None)


def faults(access: Access, wrong: Collection[str]) -> Iterator[Fault]:
    """Say what does not go together, and which files are of no use. `wrong` are settings known to be wrong already."""
    for name in SECRETS:
        if getattr(access, name) and getattr(access, f"{name}_file"):
            yield Fault(name, f"{name}_file says it as well: one of the two")
    unread = list(_unread_secrets(access))
    yield from unread
    if "security_protocol" in wrong:
        return
    if access.has_login:
        yield from _faults_of_login(access, wrong)
    else:
        yield from _idle(access, (*PASSWORD, *OAUTH), f"security_protocol {access.security_protocol} has no login")
    if not access.has_tls:
        yield from _idle(access, TLS, f"security_protocol {access.security_protocol} has no TLS")
    elif not {fault.name for fault in unread} & {"ssl_key_password_file"}:
        yield from _faults_of_tls(access)


def _unread_secrets(access: Access) -> Iterator[Fault]:
    for name in (*(f"{secret}_file" for secret in SECRETS), "oauth_token_file"):
        if path := getattr(access, name):
            try:
                read_secret(path)
            except OSError as error:
                yield Fault(name, error.strerror or "can't be read")
            except UnicodeDecodeError as error:
                yield Fault(name, f"not UTF-8 at byte {error.start}")
            except ValueError as error:
                yield Fault(name, str(error))


def _faults_of_login(access: Access, wrong: Collection[str]) -> Iterator[Fault]:
    if "sasl_mechanism" in wrong:
        return
    needs = f"sasl_mechanism {access.sasl_mechanism} needs"
    if access.sasl_mechanism != "OAUTHBEARER":
        if not access.sasl_username and "sasl_username" not in wrong:
            yield Fault("sasl_username", f"{needs} one")
        if not (access.sasl_password or access.sasl_password_file or {*PASSWORD[1:]} & {*wrong}):
            yield Fault("sasl_password", f"{needs} one, here or in sasl_password_file")
        yield from _idle(access, OAUTH, f"sasl_mechanism {access.sasl_mechanism} has no tokens")
        return
    yield from _idle(access, PASSWORD, "sasl_mechanism OAUTHBEARER has no password")
    fetching = [name for name in OAUTH[:-1] if getattr(access, name)]
    if access.oauth_token_file:
        yield from (Fault(name, "oauth_token_file says where tokens come from: one of the two") for name in fetching)
        return
    if not access.oauth_token_url and "oauth_token_url" not in wrong:
        yield Fault("oauth_token_url", f"{needs} it, or oauth_token_file")
    if not access.oauth_client_id:
        yield Fault("oauth_client_id", f"{needs} one, or oauth_token_file")
    if not (access.oauth_client_secret or access.oauth_client_secret_file):
        yield Fault("oauth_client_secret", f"{needs} one, here or in oauth_client_secret_file, or oauth_token_file")


def _faults_of_tls(access: Access) -> Iterator[Fault]:
    """Try each file by itself, then the certificate with its key."""
    for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file"):
        if path := getattr(access, name):
            try:
                path.read_bytes()
            except OSError as error:
                yield Fault(name, error.strerror or "can't be read")
                return
    if access.ssl_ca_file:
        try:
            ssl.create_default_context(cafile=access.ssl_ca_file)
        except ssl.SSLError as error:
            yield Fault("ssl_ca_file", _words(error))
    if not access.ssl_cert_file:
        yield from _idle(access, TLS[2:], "there is no ssl_cert_file that it belongs to")
        return
    try:
        msgspec.structs.replace(access.tls(), ca_file=None).context()
    except (ssl.SSLError, ValueError) as error:
        if access.ssl_key_file is None and not access.ssl_key_password and "PEM lib" in str(error):
            yield Fault("ssl_key_file", "ssl_cert_file has a certificate and no key")
        else:
            yield Fault("ssl_cert_file", f"with its key and ssl_key_password: {_words(error)}")


def _words(error: Exception) -> str:
    return getattr(error, "reason", "") or " ".join(str(error).split()) or type(error).__name__


def _idle(access: Access, names: Collection[str], reason: str) -> Iterator[Fault]:
    """Give what is set and would not be used: whoever set it believes to be safe by it."""
    yield from (Fault(name, f"nothing uses it, as {reason}") for name in names if getattr(access, name))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
