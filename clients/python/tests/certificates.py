"""Certificates for tests, created by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc


class Authority:
    """Writes ``ca.pem``, and a certificate with its key for each name, for both ends of a connection to 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._openssl("req", "-x509", *self._new("ca"), "-subj", "/CN=ca", "-days", "1")

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def issue(self, name: str) -> None:
        self._openssl("req", *self._new(name, "csr"), "-subj", f"/CN={name}")
        extensions = self._folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        signer = ["-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", "1"]
        request = ["-in", self.path(f"{name}.csr"), "-out", self.path(f"{name}.pem"), "-extfile", str(extensions)]
        self._openssl("x509", "-req", *request, *signer)

    def credentials(self, name: str | None = None) -> grpc.ChannelCredentials:
        """Trusts this authority, and presents the certificate of this name."""
        own = [(self._folder / f"{name}.{kind}").read_bytes() for kind in ("key", "pem")] if name else [None, None]
        return grpc.ssl_channel_credentials((self._folder / "ca.pem").read_bytes(), own[0], own[1])

    def _new(self, name: str, kind: str = "pem") -> list[str]:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path(f"{name}.key")]
        return [*key, "-out", self.path(f"{name}.{kind}")]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
