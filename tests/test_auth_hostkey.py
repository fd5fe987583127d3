"""The SSH host key: made once, private, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.auth.hostkey import read_or_make_host_key
from stellarstack.errors import ConfigError


class HostKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.path = self.folder / "key"

    def refused(self) -> str:
        return str(self.assertRaises(ConfigError, read_or_make_host_key, self.path))

    def write(self, text: bytes, mode: int = 0o600) -> None:
        self.folder.mkdir(exist_ok=True)
        self.path.write_bytes(text)
        self.path.chmod(mode)

    def test_made_once(self) -> None:
        """In OpenSSH's format, mode 0600; the next start finds the same."""
        made = read_or_make_host_key(self.path)
        self.assertTrue(made.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----"))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(read_or_make_host_key(self.path), made)
        self.assertEqual([entry.name for entry in self.folder.iterdir()], ["key"])

    def test_others(self) -> None:
        """One that others may read, another kind, one with a passphrase, a folder, no key: one clear line."""
        good = read_or_make_host_key(self.path)
        self.write(good, 0o644)
        self.assertIn("mode 0644", self.refused())
        other = ec.generate_private_key(ec.SECP256R1())
        locked = ed25519.Ed25519PrivateKey.generate()
        for text in (
            other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
            locked.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"x")),
            good[:100], b"", b"\xff" * 20_000,
        ):  # fmt: skip
            self.write(text)
            self.assertIn("is no Ed25519 key", self.refused())
        self.path.unlink()
        self.path.mkdir()
        self.assertIn(str(self.path), self.refused())
