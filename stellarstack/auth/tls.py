"""TLS for the listener and for what the daemon connects to: one certificate, TLS 1.2 or newer, names checked.

Files are read when the contexts are made and at `reload`, never while the reactor serves (PROTOCOL 2, `[tls]`).
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from zope.interface import implementer

from stellarstack.config import TlsConfig
from stellarstack.errors import ConfigError

MAX_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Identity:
    """A certificate with its chain and its key."""

    chain: tuple[x509.Certificate, ...]
    key: crypto.PKey

    @property
    def leaf(self) -> crypto.X509:
        return crypto.X509.from_cryptography(self.chain[0])

    @property
    def rest(self) -> list[crypto.X509]:
        return [crypto.X509.from_cryptography(one) for one in self.chain[1:]]


@dataclass(frozen=True, slots=True)
class _Files:
    """What `[tls]` names, read and found to fit together."""

    identity: _Identity | None
    ca: tuple[x509.Certificate, ...]
    client_ca: tuple[x509.Certificate, ...]


@implementer(IOpenSSLServerConnectionCreator)
class _Listener:
    """Each new connection gets the context of now, so a reload drops nobody."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class TlsContexts:
    """All TLS of the daemon. ConfigError names section, key and file of what cannot be used."""

    _log = Logger()

    def __init__(self, config: TlsConfig) -> None:
        """Reads the files of `[tls]`: it blocks."""
        self._config = config
        self._files = _read(config)
        context = _server_context(self._files)
        self._listener = None if context is None else _Listener(context)

    def server(self) -> IOpenSSLServerConnectionCreator | None:
        """For the listener; None where `[tls]` has no certificate. With `client_ca` each peer must show one of it."""
        return self._listener

    def client(self, hostname: str) -> IOpenSSLClientConnectionCreator:
        """For a connection to `hostname`, whose certificate must be for that name (or address) and of `ca`.

        Where `[tls]` has a certificate it is shown to the peer.
        """
        files = self._files
        trust = trustRootFromCertificates(_roots(files.ca)) if files.ca else platformTrust()
        own, extra = None, {"raiseMinimumTo": TLSVersion.TLSv1_2}
        if files.identity is not None:
            pair = KeyPair(files.identity.key)
            own = PrivateCertificate.fromCertificateAndKeyPair(Certificate(files.identity.leaf), pair)
            extra["extraCertChain"] = files.identity.rest
        found: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            hostname, trustRoot=trust, clientCertificate=own, extraCertificateOptions=extra
        )
        return found

    def expiries(self) -> Mapping[str, float]:
        """Key of `[tls]` -> Unix seconds at which the first certificate in its file ends."""
        identity = self._files.identity
        groups = {
            "certificate": identity.chain if identity is not None else (),
            "ca": self._files.ca,
            "client_ca": self._files.client_ca,
        }
        return {
            name: min(one.not_valid_after_utc.timestamp() for one in group) for name, group in groups.items() if group
        }

    def reload(self) -> None:
        """Reads the files anew, for connections from now on. It blocks; on ConfigError all stays as it was."""
        files = _read(self._config)
        context = _server_context(files)
        self._files = files
        if self._listener is not None and context is not None:
            self._listener.context = context
        self._log.info("the TLS certificates were read anew")


def _read(config: TlsConfig) -> _Files:
    if (config.certificate is None) != (config.key is None):
        missing, there = ("key", "certificate") if config.key is None else ("certificate", "key")
        raise ConfigError(f"[tls] {missing} is missing: it belongs to [tls] {there}")
    if config.client_ca is not None and config.certificate is None:
        raise ConfigError("[tls] client_ca needs [tls] certificate and key: without them the listener has no TLS")
    identity = None
    if config.certificate is not None and config.key is not None:
        identity = _identity(config.certificate, config.key)
    return _Files(identity, _certificates("ca", config.ca), _certificates("client_ca", config.client_ca))


def _identity(certificate: Path, key: Path) -> _Identity:
    chain = _certificates("certificate", certificate)
    mode = _mode(key)
    if mode & 0o077:
        raise ConfigError(f"[tls] key: {key} has mode {mode:04o}, allowed is 0600")
    try:
        private: Any = load_pem_private_key(_bytes("key", key), password=None)
        found = _Identity(chain, crypto.PKey.from_cryptography_key(private))
    except TypeError:
        raise ConfigError(f"[tls] key: {key} is encrypted or of an unknown kind; a plain PEM key is needed") from None
    except ValueError:
        raise ConfigError(f"[tls] key: {key} is no private key in PEM form") from None
    if private.public_key() != chain[0].public_key():
        raise ConfigError(f"[tls] key: {key} does not belong to the certificate {certificate}")
    return found


def _certificates(name: str, path: Path | None) -> tuple[x509.Certificate, ...]:
    if path is None:
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(_bytes(name, path)))
    except ValueError:
        raise ConfigError(f"[tls] {name}: {path} holds no certificate in PEM form") from None


def _bytes(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            found = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"[tls] {name}: {path}: {error.strerror or error}") from None
    if len(found) > MAX_FILE:
        raise ConfigError(f"[tls] {name}: {path} has over {MAX_FILE} bytes")
    return found


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"[tls] key: {path}: {error.strerror or error}") from None


def _server_context(files: _Files) -> SSL.Context | None:
    if files.identity is None:
        return None
    trust = trustRootFromCertificates(_roots(files.client_ca)) if files.client_ca else None
    options = CertificateOptions(
        privateKey=files.identity.key, certificate=files.identity.leaf, extraCertChain=files.identity.rest,
        raiseMinimumTo=TLSVersion.TLSv1_2, trustRoot=trust,
    )  # fmt: skip
    try:
        context: SSL.Context = options.getContext()
    except SSL.Error as error:
        raise ConfigError(f"[tls] certificate cannot be used: {error}") from None
    return context


def _roots(certificates: tuple[x509.Certificate, ...]) -> list[Certificate]:
    return [Certificate(crypto.X509.from_cryptography(one)) for one in certificates]
