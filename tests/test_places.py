"""The files and folders that daemon.toml names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import Config
from stellarstack.errors import ConfigError
from stellarstack.places import SECCOMP_LIMIT, make_places, read_seccomp


class PlacesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.config = Config()
        self.config = self.changed("paths", state=self.folder / "state", control_socket=self.folder / "c.sock")

    def changed(self, section: str, **keys: Any) -> Config:
        changed: Any = {section: replace(getattr(self.config, section), **keys)}
        return replace(self.config, **changed)

    def test_made(self) -> None:
        """What is missing is made, and what an interrupted write left is gone."""
        state = self.folder / "state"
        state.mkdir()
        left = state / ".jwt_secret.0123456789abcdef.tmp"
        left.touch()
        make_places(self.config)
        self.assertEqual({path.name for path in state.iterdir()}, {"servers", "blueprints", "console"})
        self.assertEqual(state.joinpath("servers").stat().st_mode & 0o777, 0o711)

    def test_a_folder_for_a_file(self) -> None:
        """A folder where a file is wanted is one line that names the key."""
        rows = (
            ("paths", "database", "[paths] database"),
            ("paths", "control_socket", "[paths] control_socket"),
            ("redis", "embedded_socket", "[redis] embedded_socket"),
            ("docker", "socket", "[docker] socket"),
        )
        for section, key, place in rows:
            config = self.changed(section, **{key: self.folder})
            line = str(self.assertRaises(ConfigError, make_places, config))
            self.assertEqual(line, f"{place}: found the folder {self.folder}, allowed is a file's path")

    def test_seccomp(self) -> None:
        """A good profile is handed on as it is; none is None."""
        path = self.folder / "profile.json"
        path.write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
        self.assertEqual(read_seccomp(path), '{"defaultAction": "SCMP_ACT_ERRNO"}')
        self.assertIsNone(read_seccomp(None))

    def test_seccomp_that_is_none(self) -> None:
        """A profile that is missing, a folder, no JSON, no profile or too big is one line that names the key."""
        path = self.folder / "profile.json"
        rows = (
            (b"", "no valid JSON"), (b"{", "no valid JSON"), (b"\xff", "no valid JSON"), (b"[]", "no defaultAction"),
            (b'{"defaultAction": 3}', "no defaultAction"), (b"[" * 100_000, "no valid JSON"),
            (b'{"a": ' + b"9" * 5000 + b"}", "no valid JSON"), (b" " * (SECCOMP_LIMIT + 1), "more than 1048576 bytes"),
        )  # fmt: skip
        for raw, told in rows:
            path.write_bytes(raw)
            line = str(self.assertRaises(ConfigError, read_seccomp, path))
            self.assertTrue(line.startswith(f"[docker] seccomp_profile: {path}"), line)
            self.assertIn(told, line)
            self.assertNotIn("\n", line)
        for path, told in ((self.folder / "none", "No such file"), (self.folder, "Is a directory")):
            line = str(self.assertRaises(ConfigError, read_seccomp, path))
            self.assertEqual(line, f"[docker] seccomp_profile: {path} cannot be read: {line.rsplit(': ', 1)[1]}")
            self.assertIn(told, line)
