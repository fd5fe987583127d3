"""Links that open the web console."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import Config, ServerConfig, TlsConfig
from stellarstack.ctl.arguments import Usage
from stellarstack.ctl.link import console_link

TLS = TlsConfig(certificate=Path("c"), key=Path("k"))


class ConsoleLink(SynchronousTestCase):
    """`stellarctl token mint --link`."""

    def test_of_the_config(self) -> None:
        """Where [server] listens; all addresses are reached on loopback; with a certificate it is https."""
        for server, tls, node in (
            (ServerConfig(), TlsConfig(), "http://127.0.0.1:8080"),
            (ServerConfig("0.0.0.0", 99), TlsConfig(), "http://127.0.0.1:99"),
            (ServerConfig("::", 99), TLS, "https://[::1]:99"),
            (ServerConfig("2001:db8::1", 99), TLS, "https://[2001:db8::1]:99"),
            (ServerConfig("node.example", 443), TLS, "https://node.example:443"),
        ):  # fmt: skip
            self.assertEqual(console_link(None, Config(server=server, tls=tls), "a.b.c"), f"{node}/#token=a.b.c")

    def test_of_the_url(self) -> None:
        """Behind a proxy the operator says where, with the proxy's path if it has one."""
        for url in ("https://node.example", "https://node.example/", "http://[::1]:80", "https://panel.example/node1/"):
            self.assertEqual(console_link(url, Config(), "t"), f"{url.rstrip('/')}/#token=t")

    def test_refused(self) -> None:
        """What is no address of a page, and a port that only the daemon knows."""
        for url in (
            "",
            "node.example",
            "ws://node",
            "https://",
            "https://a/?x=1",
            "https://a/#x",
            "https://u@a",
            "http://a:b",
        ):
            self.assertRaises(Usage, console_link, url, Config(), "t")
        self.assertRaises(Usage, console_link, None, Config(server=ServerConfig(port=0)), "t")
