"""By what right a client comes to a cluster: certificates, a password, or a token. Plain values, fit for a pipe."""

import ssl
from pathlib import Path
from typing import ClassVar, Literal

from msgspec import Struct

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class Tls(Struct, frozen=True):
    """How TLS is spoken: whom we trust, and who we are. Paths are of PEM files."""

    ca_file: str | None = None
    """Whom we trust; None: whom this machine trusts."""
    cert_file: str | None = None
    """Our own certificate, and the chain above it; None: we show none."""
    key_file: str | None = None
    """Its key; None: it is in `cert_file`."""
    key_password: str = ""
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Read the files as they are now.

        Raises:
            OSError: A file can't be read, is no PEM, or does not go with the others; `ssl.SSLError` is one.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = self.check_hostname
        if self.cert_file:
            # never None: OpenSSL would ask the terminal
            context.load_cert_chain(self.cert_file, self.key_file, lambda: self.key_password)
        return context

    def __repr__(self) -> str:
        return f"Tls(ca_file={self.ca_file!r}, cert_file={self.cert_file!r}, check_hostname={self.check_hostname})"


class Password(Struct, frozen=True, tag=True):
    """A user and a password, by PLAIN or SCRAM."""

    mechanism: Mechanism
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Password({self.mechanism}, {self.username!r})"


class ClientCredentials(Struct, frozen=True, tag=True):
    """A client that fetches its tokens (RFC 6749, section 4.4), for OAUTHBEARER."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""

    mechanism: ClassVar[Mechanism] = "OAUTHBEARER"

    def __repr__(self) -> str:
        return f"ClientCredentials({self.token_url!r}, {self.client_id!r})"


class TokenFile(Struct, frozen=True, tag=True):
    """A file in which somebody else keeps a token that is valid, for OAUTHBEARER."""

    path: str

    mechanism: ClassVar[Mechanism] = "OAUTHBEARER"


Login = Password | ClientCredentials | TokenFile


def read_secret(path: Path) -> str:
    """Read a secret from its file, as one line.

    Raises:
        OSError: It can't be read.
        ValueError: There is none in it, or more than one line.
    """
    secret = path.read_text("utf-8").rstrip("\r\n")
    if not secret or "\n" in secret:
        raise ValueError(f"{len(secret.splitlines())} lines where one is expected")
    return secret
