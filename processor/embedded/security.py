"""A cluster that lets in nobody whom it does not know, and denies what nobody has allowed: for tests of just that.

    props = secured(keystore, authority, super_users=["broker", "admin"], passwords={"admin": "..."})
    EmbeddedKafka(props=props, tls=..., scram=passwords.items())

On {port} clients come by certificate, and so do the brokers themselves; on {extra} by SASL_SSL.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from processor.embedded.ports import HOST

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


def secured(
    keystore: Path,
    authority: Path,
    *,
    super_users: Iterable[str],
    passwords: Mapping[str, str],
) -> dict[str, object]:
    """Compose the properties of such a cluster.

    Args:
        keystore: the brokers' key (PKCS#8) and certificate, in one PEM file.
        authority: whose certificates are believed; the common name of one is the user's name.
        super_users: who may do anything; the name in the brokers' certificate must be among them.
        passwords: users that PLAIN knows. Those of SCRAM are given to `EmbeddedKafka`, which has them in its data.
    """
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = " ".join(f'user_{name}="{password}"' for name, password in passwords.items())
    bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
    logins = {
        "plain": f"{plain} {users};",
        "oauthbearer": f'{bearer} unsecuredLoginStringClaim_sub="broker";',  # Kafka's own, which believes any token
        **{name.lower(): "org.apache.kafka.common.security.scram.ScramLoginModule required;" for name in SCRAM},
    }
    return {
        "listeners": f"MTLS://{HOST}:{{port}},CONTROLLER://{HOST}:{{control}},SASL://{HOST}:{{extra}}",
        "listener.security.protocol.map": "MTLS:SSL,CONTROLLER:SSL,SASL:SASL_SSL",
        "inter.broker.listener.name": "MTLS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keystore,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority,
        "ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        "listener.name.sasl.ssl.client.auth": "none",
        "sasl.enabled.mechanisms": ",".join([*SCRAM, "PLAIN", "OAUTHBEARER"]),
        **{f"listener.name.sasl.{name}.sasl.jaas.config": login for name, login in logins.items()},
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": ";".join(f"User:{name}" for name in super_users),
        "connection.failed.authentication.delay.ms": 100,
    }
