"""Certificates for tests: an authority in a folder, and whoever it certifies, each as PEM files."""

from datetime import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

LOOPBACK = ("localhost", "127.0.0.1")


class Authority:
    """Certifies names; nobody trusts it but those who are told to."""

    def __init__(self, folder: Path) -> None:
        """Make it; its files lie in `folder`."""
        self._folder, self._authority = folder, trustme.CA(key_type=trustme.KeyType.RSA)
        self.certificate = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.certificate))

    def pair(self, name: str, *hosts: str, not_after: datetime | None = None) -> tuple[Path, Path]:
        """Certify a common name, for this machine's hosts where none are named; give certificate and key (PKCS#8)."""
        issued = self._authority.issue_cert(
            *(hosts or LOOPBACK), common_name=name, not_after=not_after, key_type=trustme.KeyType.RSA
        )
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        certificate_path, key_path = self._folder / f"{name}.pem", self._folder / f"{name}.key.pem"
        certificate_path.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_path, key_path

    def together(self, name: str, *hosts: str, not_after: datetime | None = None) -> Path:
        """Certify, with the key before the certificate in one file, as a Java broker wants it."""
        certificate, key = self.pair(name, *hosts, not_after=not_after)
        path = self._folder / f"{name}.both.pem"
        path.write_bytes(key.read_bytes() + certificate.read_bytes())
        return path
