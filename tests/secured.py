"""A Kafka that denies by default, and the ways in: by certificate, by password, by token."""

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiokafka.protocol.admin import DeleteAclsRequest_v1

from processor import acls, topics
from processor.embedded import EmbeddedKafka
from processor.embedded.security import secured
from processor.kafka.protocol import ExactRequest
from processor.settings import Settings
from tests.certificates import Authority
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.verbs import janela

ADMIN: Final = "admin"
WORKER: Final = "janela-worker"
PEOPLE: Final = ("platform", "auditor", "operator", "rebuilder", "replayer")
SESSION_MS: Final = 4000
"""When the brokers end the session of a token, whoever has it."""
PASSWORDS: Final = {name: f"{name}-secret" for name in (ADMIN, WORKER, *PEOPLE)}


class Cluster:
    """The broker, and settings with which its users come."""

    def __init__(self, kafka: EmbeddedKafka, authority: Authority) -> None:
        self.kafka, self.authority = kafka, authority

    def by_password(self, user: str, mechanism: str = "SCRAM-SHA-512", **more: Any) -> dict[str, Any]:
        """Give the settings of who logs in over TLS."""
        return {
            "bootstrap_servers": self.kafka.extra_servers,
            "security_protocol": "SASL_SSL",
            "ssl_ca_file": str(self.authority.certificate),
            "sasl_mechanism": mechanism,
            "sasl_username": user,
            "sasl_password": PASSWORDS[user],
        } | more

    def by_certificate(self, user: str, **more: Any) -> dict[str, Any]:
        """Give the settings of who shows a certificate."""
        certificate, key = self.authority.pair(user)
        return {
            "bootstrap_servers": self.kafka.bootstrap_servers,
            "security_protocol": "SSL",
            "ssl_ca_file": str(self.authority.certificate),
            "ssl_cert_file": str(certificate),
            "ssl_key_file": str(key),
        } | more

    def by_token(self, **more: Any) -> dict[str, Any]:
        """Give the settings of who has a token; where it comes from is the test's affair."""
        return {
            "bootstrap_servers": self.kafka.extra_servers,
            "security_protocol": "SASL_SSL",
            "ssl_ca_file": str(self.authority.certificate),
            "sasl_mechanism": "OAUTHBEARER",
        } | more

    def settings(self, topic_prefix: str, access: dict[str, Any], **more: Any) -> Settings:
        """Give a worker's settings under a prefix."""
        ours = {"app_id": f"{topic_prefix}janela", "topic_prefix": topic_prefix, "partitions": 2, "clock": "event"}
        return Settings(**access | ours | {"session_timeout_ms": 6000} | more)

    async def grant(self, settings: Settings, user: str, rights: tuple[acls.Acl, ...]) -> None:
        """Grant rights as an administrator."""
        await acls.grant(self.as_admin(settings), rights, f"User:{user}")

    async def take_away(self, settings: Settings, user: str, acl: acls.Acl) -> None:
        """Take a right away as an administrator."""
        found = (
            acls._RESOURCE_CODES[acl.resource], acl.name, acls._PREFIXED if acl.is_prefix else acls._LITERAL,
            f"User:{user}", "*", acls.OPERATION_CODES[acl.operation], acls._ALLOW,
        )  # fmt: skip
        async with topics.asking(self.as_admin(settings)) as admin:
            answer = await admin._send_request(ExactRequest(DeleteAclsRequest_v1, [found]))
        ((code, _, matching),) = answer.filter_responses
        assert (code, len(matching)) == (0, 1)

    def as_admin(self, settings: Settings) -> Settings:
        """Give the same settings for somebody who may do anything."""
        given = settings.model_dump(exclude_unset=True)
        kept = {name: value for name, value in given.items() if not name.startswith(("sasl_", "ssl_", "oauth_"))}
        return Settings(**kept | self.by_password(ADMIN))


def token_of(user: str, seconds: int = 3600) -> str:
    """Make a token without a signature, which Kafka's own handler for tests believes."""

    def part(of: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(of).encode()).decode().rstrip("=")

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': user, 'iat': now, 'exp': now + seconds})}."


@contextmanager
def secured_kafka(folder: Path, **more: Any) -> Iterator[Cluster]:
    """Start it; certificates lie in `folder`, `more` are properties of the brokers."""
    authority = Authority(folder)
    props = secured(
        authority.together("broker"),
        authority.certificate,
        super_users=("broker", ADMIN),
        passwords=PASSWORDS,
    )
    certificate, key = authority.pair("probe")
    probe = ssl.create_default_context(cafile=authority.certificate)
    probe.load_cert_chain(certificate, key)
    props["listener.name.sasl.oauthbearer.connections.max.reauth.ms"] = SESSION_MS
    with EmbeddedKafka(props=props | more, tls=probe, scram=tuple(PASSWORDS.items())) as kafka:
        yield Cluster(kafka, authority)


NOBODY: Final[dict[str, Any]] = {"sasl_username": "", "sasl_password": "", "sasl_mechanism": "SCRAM-SHA-512"}
"""Takes away the login of whoever puts the stage together."""


@asynccontextmanager
async def token_endpoint(client_id: str, secret: str) -> AsyncIterator[str]:
    """Give the URL of an endpoint that gives a worker's token to one client; it lives in this process."""

    async def give(request: web.Request) -> web.Response:
        form = await request.post()
        given = base64.b64decode(request.headers["Authorization"].removeprefix("Basic "))
        if given != f"{client_id}:{secret}".encode():
            return web.json_response({"error": "invalid_client"}, status=401)
        assert form["grant_type"] == "client_credentials"
        return web.json_response({"access_token": token_of(WORKER), "expires_in": 300, "token_type": "Bearer"})

    app = web.Application()
    app.router.add_post("/token", give)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    finally:
        await runner.cleanup()


async def done(settings: Settings, *arguments: str, **changed: Any) -> str:
    """Run a verb that must go well, and give what it prints."""
    code, out, err = await janela(settings, *arguments, **changed)
    assert code == 0, err
    return out


def records(seed: int = 1) -> list[Wanted]:
    """Give a small backlog for two partitions."""
    return backlog(seed, 300, 12, 2, time.time_ns() // 1_000_000 - HOUR_MS)
