"""The secret of the state folder: made once, kept private, never half written (PROTOCOL 2)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.auth.secrets import own_secret, read_or_make_secret
from stellarstack.config import AuthConfig, Secret
from stellarstack.errors import ConfigError


class JwtSecretFile(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "jwt_secret"

    def hold(self, text: bytes, mode: int = 0o600) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(text)
        self.path.chmod(mode)

    def test_made_at_the_first_start(self) -> None:
        """Folder and file are made, the file private, and its secret is long."""
        secret = read_or_make_secret(self.path)
        self.assertGreaterEqual(len(secret.reveal()), 43)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.path.parent), ["jwt_secret"])

    def test_not_made_where_there_is_a_key(self) -> None:
        """Where daemon.toml names a secret or a public key, none is made and none is asked for."""
        for auth in (AuthConfig(jwt_secret=Secret("s" * 32)), AuthConfig(jwt_public_key="PEM", jwt_algorithm="EdDSA")):
            self.assertIsNone(own_secret(auth, self.path))
        self.assertFalse(self.path.exists())
        self.assertEqual(own_secret(AuthConfig(), self.path), read_or_make_secret(self.path))

    def test_kept_at_the_next(self) -> None:
        """The same file answers the same secret; another file another one."""
        first = read_or_make_secret(self.path)
        self.assertEqual(read_or_make_secret(self.path), first)
        self.assertNotEqual(read_or_make_secret(self.path.with_name("other")), first)

    def test_nobody_is_overwritten(self) -> None:
        """A secret that stands there already is used, white space around it left out."""
        self.hold(b"  " + b"k" * 32 + b"\n")
        self.assertEqual(read_or_make_secret(self.path).reveal(), "k" * 32)

    def test_too_open(self) -> None:
        """A file that others can read is refused, with its mode."""
        for mode in (0o640, 0o604, 0o666):
            with self.subTest(mode=mode):
                path = self.path.with_name(f"jwt_{mode:o}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"k" * 40)
                path.chmod(mode)
                self.assertIn(f"{mode:04o}", str(self.assertRaises(ConfigError, read_or_make_secret, path)))

    def test_j05_too_short(self) -> None:
        """J05: an empty, short, huge or binary file is no secret, and is left as it is."""
        for text in (b"", b"k" * 31, b"k" * 31 + b" " * 40, b"k" * 5000, b"\xff" * 40):
            path = self.path.with_name(f"jwt_{len(text)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            path.chmod(0o600)
            self.assertRaises(ConfigError, read_or_make_secret, path)
            self.assertEqual(path.read_bytes(), text)

    def test_no_file(self) -> None:
        """A link, a folder, a pipe or a place where no file can be made is one clear error, and nothing hangs."""
        self.hold(b"k" * 40)
        folder = self.path.parent
        (folder / "link").symlink_to(self.path)
        (folder / "folder").mkdir(0o700)
        os.mkfifo(folder / "pipe", 0o600)
        for name in ("link", "folder", "pipe", "jwt_secret/below"):
            error = self.assertRaises(ConfigError, read_or_make_secret, folder / name)
            self.assertIn(str(folder / name), str(error))
