"""Where `stellarctl console` finds the console, and how it opens it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import Config, ServerConfig, TlsConfig
from stellarstack.ctl import attach
from stellarstack.ctl.arguments import Usage, parser
from stellarstack.ctl.attach import console_address, open_console
from stellarstack.ctl.console import READ, WRITE
from stellarstack.ctl.control import Refused
from stellarstack.ctl.websocket import Address, ConnectionLost, ConsoleSocket


class TestAddress(SynchronousTestCase):
    """`--url` or the config."""

    def test_config(self) -> None:
        """The listener of the config; one on all addresses is reached on loopback."""
        rows = {"192.0.2.1": "192.0.2.1", "0.0.0.0": "127.0.0.1", "::": "::1", "node.example": "node.example"}
        for host, expected in rows.items():
            found = console_address(None, Config(server=ServerConfig(host=host, port=81)))
            self.assertEqual(found, Address(expected, 81, None))
        self.assertRaises(Usage, console_address, None, Config(server=ServerConfig(port=0)))

    def test_url(self) -> None:
        """ws:// and wss:// with their ports; anything else is wrong usage."""
        self.assertEqual(console_address("ws://h:81/console", Config()), Address("h", 81, None))
        secure = console_address("wss://h", Config())
        self.assertEqual((secure.host, secure.port), ("h", 443))
        assert secure.tls is not None
        self.assertEqual(secure.tls.verify_mode, ssl.CERT_REQUIRED)
        self.assertTrue(secure.tls.check_hostname)
        for url in ("http://h", "ws://", "ws://h:99999", "ws://h/other"):
            self.assertRaises(Usage, console_address, url, Config())

    def test_pinned(self) -> None:
        """With [tls] the daemon's own certificate is what is trusted; a bad file is one clear refusal."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        bad = folder / "bad.pem"
        bad.write_text("x")
        for file in (bad, folder / "none.pem"):
            config = Config(tls=TlsConfig(certificate=file, key=file))
            self.assertIn("[tls]", str(self.assertRaises(Refused, console_address, None, config)))


class TestOpen(SynchronousTestCase):
    """The whole, as far as no daemon is needed."""

    def test_token(self) -> None:
        """The token is minted for the one server and for no more than is needed."""
        asked: list[Any] = []

        class Control:
            def post(self, target: str, body: Any) -> Any:
                asked.append((target, body))
                return {"token": "strk_console_x", "expiresAt": 1}

        class Terminal:
            def __init__(self, *, watching: bool) -> None:
                asked.append(watching)

            def __enter__(self) -> Terminal:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        class Console:
            def __init__(self, **settings: Any) -> None:
                self.settings = settings

            def run(self) -> None:
                asked.append(self.settings["mint"]())
                asked.append(self.settings["address"]().url(f"/console/{self.settings['server_id']}"))

        self.patch(attach, "Terminal", Terminal)
        self.patch(attach, "Console", Console)
        control: Any = Control()
        for words, permissions in ((["--read-only"], READ), ([], WRITE)):
            asked.clear()
            self.assertEqual(open_console(parser().parse_args(["console", "s", *words]), Config(), control), 0)
            self.assertEqual(asked[0], permissions == READ)
            self.assertEqual(asked[1], ("/v1/tokens", {"serverId": "s", "permissions": permissions}))
            self.assertEqual(asked[2:], ["strk_console_x", "ws://127.0.0.1:8080/console/s"])

    def test_nobody_there(self) -> None:
        """An address that nobody listens on is told as such."""
        error = self.assertRaises(ConnectionLost, ConsoleSocket.open, Address("127.0.0.1", 1), "/console/s", "t")
        self.assertIn("ws://127.0.0.1:1 does not answer", str(error))
