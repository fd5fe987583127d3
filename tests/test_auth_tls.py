"""TLS contexts of listener and connections, with throw-away certificates (PROTOCOL 2, SECURITY M01)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.auth.tls import TlsContexts
from stellarstack.config import TlsConfig
from stellarstack.errors import ConfigError

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority that lasts a test."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(self.name, self.key.public_key(), ca=True).sign(self.key, hashes.SHA256())

    def issue(
        self, folder: Path, name: str, *, begins: datetime.timedelta = -DAY, ends: datetime.timedelta = DAY,
        usage: x509.ObjectIdentifier | None = None, addresses: Sequence[str] = (),
    ) -> TlsConfig:  # fmt: skip
        """A certificate and its key as files in `folder`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(name), *(x509.IPAddress(ip_address(one)) for one in addresses)]
        build = self._build(subject, key.public_key(), begins, ends).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        if usage is not None:
            build = build.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = build.sign(self.key, hashes.SHA256())
        return TlsConfig(
            certificate=write(folder / f"{name}.crt", pem(certificate)), key=write(folder / f"{name}.key", key_pem(key))
        )

    def _build(
        self, subject: x509.Name, key: Any, begins: datetime.timedelta = -DAY, ends: datetime.timedelta = DAY,
        ca: bool = False,
    ) -> x509.CertificateBuilder:  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + min(begins, ends - DAY))
            .not_valid_after(NOW + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def key_pem(key: Any, how: KeySerializationEncryption | None = None) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how or NoEncryption())
    return found


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


class Side(Protocol):
    """One end: what it got, and why it ended."""

    def __init__(self) -> None:
        self.got = b""
        self.end: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.end = reason.value


class TlsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = Authority("our CA")
        self.stranger = Authority("their CA")
        self.ca = write(self.folder / "ca.crt", pem(self.authority.certificate))
        self.files = self.authority.issue(self.folder, "node.example", addresses=["192.0.2.7"])

    def contexts(self, base: TlsConfig | None = None, **changes: Any) -> TlsContexts:
        files = base or self.files
        how: dict[str, Any] = {"certificate": files.certificate, "key": files.key, **changes}
        return TlsContexts(TlsConfig(**how))

    def talk(self, server: Any, client: Any) -> tuple[Side, Side]:
        """A TLS conversation in memory: each side says its name."""
        ends, clock = [], Clock()
        for creator, is_client in ((server, False), (client, True)):
            side = Side()
            factory: Any = Factory.forProtocol(lambda side=side: side)  # type: ignore[misc]
            tls: Any = TLSMemoryBIOFactory(creator, is_client, factory, clock)
            ends.append((side, tls.buildProtocol(None)))
        (server_side, server_tls), (client_side, client_tls) = ends
        pump: Any = connect(
            server_tls, FakeTransport(server_tls, isServer=True), client_tls, FakeTransport(client_tls, isServer=False)
        )
        for side, word in ((client_side, b"client"), (server_side, b"server")):
            if side.end is None and side.transport is not None:
                side.transport.write(word)
        for _ in range(3):  # small writes are gathered for an instant
            clock.advance(0)
            pump.flush()
        return server_side, client_side

    def meets(self, server: Any, client: Any) -> None:
        server_side, client_side = self.talk(server, client)
        self.assertEqual((server_side.got, client_side.got), (b"client", b"server"), (server_side.end, client_side.end))

    def parts(self, server: Any, client: Any) -> None:
        server_side, client_side = self.talk(server, client)
        self.assertEqual((server_side.got, client_side.got), (b"", b""))
        self.assertIsNotNone(server_side.end)


class Listening(TlsCase):
    """What the listener accepts."""

    def test_plain(self) -> None:
        """Without a certificate there is no TLS listener."""
        self.assertIsNone(TlsContexts(TlsConfig()).server())

    def test_serves_its_certificate(self) -> None:
        """Whoever trusts the CA and asks for the name gets through."""
        self.meets(self.contexts().server(), TlsContexts(TlsConfig(ca=self.ca)).client("node.example"))

    def test_chain(self) -> None:
        """Intermediate certificates in the file go along."""
        assert self.files.certificate is not None
        both = self.files.certificate.read_bytes() + pem(self.stranger.certificate)
        contexts = self.contexts(certificate=write(self.folder / "chain.crt", both))
        self.meets(contexts.server(), TlsContexts(TlsConfig(ca=self.ca)).client("node.example"))

    def test_m01_old_versions(self) -> None:
        """M01: TLS 1.1 is refused, 1.2 is the oldest accepted."""
        old = SSL.Context(SSL.TLS_CLIENT_METHOD)
        old.set_cipher_list(b"ALL:@SECLEVEL=0")
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        self.parts(self.contexts().server(), Plain(old))
        new = SSL.Context(SSL.TLS_CLIENT_METHOD)
        new.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.meets(self.contexts().server(), Plain(new))

    def test_m01_client_certificates(self) -> None:
        """M01: with `client_ca` only a peer with a certificate of it, in force and made for it, gets through."""
        server = self.contexts(client_ca=self.ca).server()
        good = self.authority.issue(self.folder, "panel")
        self.meets(server, self.contexts(good, ca=self.ca).client("node.example"))
        self.parts(server, TlsContexts(TlsConfig(ca=self.ca)).client("node.example"))
        for number, bad in enumerate((
            self.stranger.issue(self.folder, "stranger"),
            self.authority.issue(self.folder, "old", ends=-DAY),
            self.authority.issue(self.folder, "early", begins=DAY, ends=2 * DAY),
            self.authority.issue(self.folder, "server-only", usage=ExtendedKeyUsageOID.SERVER_AUTH),
        )):  # fmt: skip
            with self.subTest(number=number):
                self.parts(server, self.contexts(bad, ca=self.ca).client("node.example"))

    def test_m01_reload(self) -> None:
        """M01: after a reload new connections get the new certificate; a bad file leaves the old one in use."""
        contexts, server = self.contexts(), self.contexts().server()
        server = contexts.server()
        assert self.files.certificate is not None and self.files.key is not None
        fresh = self.stranger.issue(self.folder, "fresh")
        assert fresh.certificate is not None and fresh.key is not None
        new_ca = write(self.folder / "new.crt", pem(self.stranger.certificate))
        trusting = TlsContexts(TlsConfig(ca=new_ca)).client("fresh")
        self.parts(server, trusting)
        write(self.files.certificate, fresh.certificate.read_bytes())
        self.assertRaises(ConfigError, contexts.reload)
        self.meets(server, TlsContexts(TlsConfig(ca=self.ca)).client("node.example"))
        write(self.files.key, fresh.key.read_bytes())
        contexts.reload()
        self.meets(server, trusting)


class Connecting(TlsCase):
    """Whom a connection trusts."""

    def test_m01_names_are_checked(self) -> None:
        """M01: the peer's certificate must be for the name or address that was dialled."""
        client = TlsContexts(TlsConfig(ca=self.ca))
        server = self.contexts().server()
        self.meets(server, client.client("192.0.2.7"))
        for name in ("other.example", "example", "192.0.2.8", "node.example.evil.test"):
            self.parts(server, client.client(name))

    def test_m01_other_authorities(self) -> None:
        """M01: a certificate of another CA, or of none that the system knows, is refused."""
        server = self.contexts().server()
        other = write(self.folder / "other.crt", pem(self.stranger.certificate))
        self.parts(server, TlsContexts(TlsConfig(ca=other)).client("node.example"))
        self.parts(server, TlsContexts(TlsConfig()).client("node.example"))

    def test_m01_times_and_usage(self) -> None:
        """M01: a certificate that is expired, not yet in force, or not made for servers is refused."""
        client = TlsContexts(TlsConfig(ca=self.ca)).client("s")
        for changes in ({"ends": -DAY}, {"begins": DAY, "ends": 2 * DAY}, {"usage": ExtendedKeyUsageOID.CLIENT_AUTH}):
            self.parts(self.contexts(self.authority.issue(self.folder, "s", **changes)).server(), client)

    def test_m01_old_servers(self) -> None:
        """M01: a server that speaks TLS 1.1 at best is refused."""
        assert self.files.certificate is not None and self.files.key is not None
        old = SSL.Context(SSL.TLS_SERVER_METHOD)
        old.set_cipher_list(b"ALL:@SECLEVEL=0")
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        old.use_certificate_file(str(self.files.certificate))
        old.use_privatekey_file(str(self.files.key))
        self.parts(Plain(old), TlsContexts(TlsConfig(ca=self.ca)).client("node.example"))


class Plain:
    """A connection creator of a test's own making."""

    def __init__(self, context: SSL.Context) -> None:
        self._options = CertificateOptions()
        self._options._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._options, name)


class Files(TlsCase):
    """What cannot be used is one line that names file and key."""

    def refuses(self, word: str, **changes: Any) -> None:
        self.assertIn(word, str(self.assertRaises(ConfigError, self.contexts, **changes)))

    def test_m01_key_mode(self) -> None:
        """M01: a key that others can read refuses the start."""
        assert self.files.key is not None
        for mode in (0o640, 0o604, 0o644, 0o660):
            self.files.key.chmod(mode)
            self.refuses(f"{mode:04o}")
        self.files.key.chmod(0o400)
        self.contexts()

    def test_pairs(self) -> None:
        """Certificate and key go together, and `client_ca` needs both."""
        self.refuses("[tls] key is missing", key=None)
        self.refuses("[tls] certificate is missing", certificate=None)
        self.refuses("client_ca", certificate=None, key=None, client_ca=self.ca)
        other = self.authority.issue(self.folder, "other")
        self.refuses("does not belong", key=other.key)

    def test_unreadable(self) -> None:
        """A file that is missing, no PEM, too large, encrypted or of a wrong kind is named."""
        junk = write(self.folder / "junk", b"junk")
        empty = write(self.folder / "empty", b"")
        huge = write(self.folder / "huge", b"x" * (1024 * 1024 + 1))
        locked = write(
            self.folder / "locked", key_pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"pw"))
        )
        for name in ("certificate", "key", "ca", "client_ca"):
            for path in (junk, empty, huge, self.folder / "none", self.folder):
                self.refuses(str(path), **{name: path})
        self.refuses("encrypted", key=locked)
        self.refuses("does not belong", key=write(self.folder / "ed", key_pem(ed25519.Ed25519PrivateKey.generate())))

    def test_expiries(self) -> None:
        """The end of each certificate can be told, the earliest where a file holds several."""
        soon = Authority("soon")
        later = self.authority.issue(self.folder, "later", ends=40 * DAY)
        both = write(self.folder / "both.crt", pem(self.authority.certificate, soon.certificate))
        found = self.contexts(later, ca=both, client_ca=self.ca).expiries()
        self.assertEqual(set(found), {"certificate", "ca", "client_ca"})
        self.assertEqual(found["certificate"], (NOW + 40 * DAY).timestamp())
        self.assertEqual(found["ca"], (NOW + DAY).timestamp())
        self.assertEqual(TlsContexts(TlsConfig()).expiries(), {})
