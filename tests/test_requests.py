"""Payloads in rows: what is taken, and what is refused with the key's name (K13)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Command, Origin
from stellarstack.core.requests import (
    COMMAND_TYPES,
    ConsoleRevoke,
    CreateServer,
    DeleteServer,
    NodeShutdown,
    ReinstallServer,
    Request,
    RestartServer,
    StartServer,
    StopServer,
    TypeLine,
    read_request,
)
from stellarstack.errors import InvalidPayload, StellarError, UnknownCommand
from tests.examples import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["serverId", "timeout", "blueprint", "config", "command", "start", "keepFiles", "jti", "userId", "name"]


def read(kind: str, **payload: Any) -> Request:
    return read_request(Command("c1", kind, payload, Origin.PUBSUB))


class ReadRequestTests(SynchronousTestCase):
    def test_taken(self) -> None:
        """Each type's payload becomes its request, defaults filled in."""
        rows: list[tuple[str, dict[str, Any], Request]] = [
            ("server.create", {"blueprint": "paper"}, CreateServer("s", "paper", None, None, {}, True, False)),
            (
                "server.create",
                {"blueprint": {}, "version": "1", "name": "n", "config": {"memory": 1}, "start": False,
                 "skipInstall": True},
                CreateServer("s", {}, "1", "n", {"memory": 1}, False, True),
            ),
            ("server.start", {}, StartServer("s")),
            ("server.stop", {}, StopServer("s", None)),
            ("server.stop", {"timeout": 0}, StopServer("s", 0.0)),
            ("server.restart", {"timeout": 1.5}, RestartServer("s", 1.5)),
            ("server.delete", {}, DeleteServer("s", True, False)),
            ("server.delete", {"deleteFiles": False, "deleteBackups": True}, DeleteServer("s", False, True)),
            ("server.reinstall", {"keepFiles": None}, ReinstallServer("s", True)),
            ("server.command", {"command": "say hi"}, TypeLine("s", "say hi")),
            ("node.shutdown", {"stopServers": True, "timeout": 3}, NodeShutdown(True, 3.0)),
            ("console.revoke", {}, ConsoleRevoke(None, None, "s")),
            ("console.revoke", {"serverId": None, "jti": "j", "userId": "u"}, ConsoleRevoke("j", "u", None)),
        ]  # fmt: skip
        for kind, payload, request in rows:
            with self.subTest(kind=kind, payload=payload):
                self.assertEqual(read(kind, **{"serverId": "s", **payload}), request)

    def test_refused(self) -> None:
        """K13: what does not fit is refused, and the text names the key."""
        rows: list[tuple[str, dict[str, Any], str]] = [
            ("server.start", {"serverId": None}, "serverId"),
            ("server.start", {"serverId": "../etc"}, "serverId"),
            ("server.start", {"serverId": "a" * 65}, "serverId"),
            ("server.start", {"serverId": ["s"]}, "serverId"),
            ("server.create", {}, "blueprint"),
            ("server.create", {"blueprint": "../x"}, "blueprint"),
            ("server.create", {"blueprint": {}, "config": []}, "config"),
            ("server.create", {"blueprint": {}, "start": "yes"}, "start"),
            ("server.create", {"blueprint": {}, "name": ""}, "name"),
            ("server.create", {"blueprint": {}, "version": "v" * 257}, "version"),
            ("server.stop", {"timeout": -1}, "timeout"),
            ("server.stop", {"timeout": True}, "timeout"),
            ("server.stop", {"timeout": float("nan")}, "timeout"),
            ("server.stop", {"timeout": 1e9}, "timeout"),
            ("server.command", {}, "command"),
            ("server.command", {"command": "a\nb"}, "command"),
            ("server.command", {"command": "a\rb"}, "command"),
            ("server.command", {"command": "x" * 4001}, "4000 bytes"),
            ("server.command", {"command": "\ud800"}, "half a character"),
            ("console.revoke", {"serverId": None}, "at least one"),
        ]
        for kind, payload, named in rows:
            with self.subTest(kind=kind, payload=payload):
                error = self.assertRaises(InvalidPayload, read, kind, **{"serverId": "s", **payload})
                self.assertIn(named, str(error))

    def test_unknown(self) -> None:
        """An unknown type is refused, and the known ones are named."""
        self.assertIn("server.start", str(self.assertRaises(UnknownCommand, read, "server.fly")))

    @examples(35)
    @given(st.sampled_from(sorted(COMMAND_TYPES)), st.dictionaries(st.sampled_from(KEYS), JSON))
    def test_never_breaks(self, kind: str, payload: dict[str, Any]) -> None:
        """K13: any payload is read or refused, and nothing else happens."""
        try:
            read(kind, **payload)
        except StellarError as error:
            self.assertTrue(str(error))
