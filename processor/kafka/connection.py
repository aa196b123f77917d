"""How to reach a cluster, and as whom: the one place in which clients of it are made.

Whatever a client is for, it comes the same way, or one verb would get in where another is refused. Nothing else makes a
client (held by tests/tidy); Faust makes its own, from `faust_credentials`.
"""

from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from msgspec import Struct

from processor.kafka import patience, refusals  # noqa: F401  # the first is at work in every consumer
from processor.kafka.security import ClientCredentials, Login, Password, Tls, TokenFile
from processor.kafka.tokens import FetchedTokens, KeptTokens

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

_ANSWER_MS = 3000


class Connection(Struct, frozen=True):
    """Where a cluster is, how it is spoken to, and as whom. Its text has no secrets, its JSON has them."""

    bootstrap_servers: str
    tls: Tls | None = None
    login: Login | None = None

    @property
    def protocol(self) -> str:
        """Kafka's name for the way: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return ("SASL_" if self.login else "") + ("SSL" if self.tls else "PLAINTEXT")

    def options(self) -> dict[str, Any]:
        """Give what every one of aiokafka's clients takes. The files are read anew for each client.

        Raises:
            OSError: A file of TLS can't be used.
        """
        found: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.protocol,
            "ssl_context": self.tls.context() if self.tls else None,
        }
        match self.login:
            case None:
                return found
            case Password(mechanism, username, password):
                login = {"sasl_plain_username": username, "sasl_plain_password": password}
                return found | {"sasl_mechanism": mechanism} | login
            case ClientCredentials() | TokenFile() as login:
                provider = _tokens(login)
                return found | {"sasl_mechanism": login.mechanism, "sasl_oauth_token_provider": provider}

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Make a consumer; `options` are aiokafka's. Needs a running loop, as do the others."""
        return AIOKafkaConsumer(*topics, **self.options(), **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """Make a producer."""
        return AIOKafkaProducer(**self.options(), **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        """Make an administrator's client."""
        return AIOKafkaAdminClient(**self.options(), **options)

    def client(self, **options: Any) -> AIOKafkaClient:
        """Make a client for requests of one's own."""
        return AIOKafkaClient(**self.options(), **options)

    async def refusal(self) -> str:
        """Say why brokers that are there let us not in, or whom we can't believe; empty where it is not for that."""
        for server in self.bootstrap_servers.split(","):
            host, _, port = server.strip().rpartition(":")
            options = self.options()
            del options["bootstrap_servers"]
            try:
                link = await create_conn(host.strip("[]"), int(port), request_timeout_ms=_ANSWER_MS, **options)
                try:
                    # a broker that refuses a token says so where aiokafka does not look, and then answers nothing
                    if not (await link.send(MetadataRequest([]))).brokers:
                        return f"{server.strip()}: the broker refuses the token (oauth_token_file or oauth_token_url)"
                finally:
                    link.close()
            except (OSError, KafkaError, TimeoutError) as error:
                if told := refusals.told(error, self.protocol):
                    return f"{server.strip()}: {told}"
        return ""

    def faust_credentials(self) -> "CredentialsT | None":
        """Give the same in Faust's words; None where nothing is asked for.

        Raises:
            OSError: A file of TLS can't be used.
        """
        from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials  # 0.2 s, for a worker alone

        context = self.tls.context() if self.tls else None
        match self.login:
            case None:
                return SSLCredentials(context) if context else None
            case Password(mechanism, username, password):
                return SASLCredentials(username=username, password=password, ssl_context=context, mechanism=mechanism)
            case ClientCredentials() | TokenFile() as login:
                return OAuthCredentials(oauth_cb=_tokens(login), ssl_context=context)


def _tokens(login: ClientCredentials | TokenFile) -> AbstractTokenProvider:
    return FetchedTokens(login) if isinstance(login, ClientCredentials) else KeptTokens(login)
