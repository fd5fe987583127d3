"""The doors on real sockets: TCP with and without TLS, and the control socket's file."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import stat
import tempfile
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import psutil
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from stellarstack.api.control import ControlListener
from stellarstack.api.health import NodeHealth
from stellarstack.api.http import DaemonSite, HttpListener
from stellarstack.api.http_answers import Nothing
from stellarstack.api.http_channel import HttpLimits
from stellarstack.api.site import make_site
from stellarstack.auth.tls import TlsContexts
from stellarstack.auth.token import MintedToken
from stellarstack.config import TlsConfig
from stellarstack.errors import ConfigError
from stellarstack.tasks import Tasks
from tests.ports import free_port
from tests.test_api_control import Ears, Inbox, Servers
from tests.test_auth_tls import Authority, pem, write

reactor: Any = _reactor


async def health() -> NodeHealth:
    return NodeHealth("node_a", "ONLINE", 1.0, {"redis": True, "docker": True, "database": True, "disk": True})


async def metrics() -> tuple[str, str]:
    return "# EOF\n", "text/plain"


class ListenerCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="doors"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.tasks = Tasks()

    def site(self, limits: HttpLimits | None = None) -> DaemonSite:
        return make_site(
            reactor=reactor, tasks=self.tasks, health=health, metrics=metrics, metrics_token=None, console=Nothing(),
            limits=limits,
        )  # fmt: skip

    def listener(self, site: DaemonSite | None = None, **how: Any) -> HttpListener:
        found = HttpListener(site=site or self.site(), reactor=reactor, **{"host": "127.0.0.1", "port": 0, **how})
        self.addCleanup(lambda: ended(found.stop))
        return found


def ended(stop: Callable[[], Any]) -> Any:
    """A coroutine as trial's clean-up takes it."""
    return Deferred.fromCoroutine(stop())


def get(connection: HTTPConnection, target: str = "/health") -> tuple[int, Any]:
    """A whole request in a thread of its own."""
    connection.request("GET", target)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


class Tcp(ListenerCase):
    """`[server]`."""

    async def test_answers(self) -> None:
        """It listens on the port that it tells, and on no other address."""
        port = await self.listener().start()
        status, body = await deferToThread(get, HTTPConnection("127.0.0.1", port, timeout=10))
        self.assertEqual((status, body["status"]), (200, "healthy"))

    async def test_ipv6(self) -> None:
        """`::1` is a host like any other."""
        port = await self.listener(host="::1").start()
        status, _ = await deferToThread(get, HTTPConnection("::1", port, timeout=10))
        self.assertEqual(status, 200)

    async def test_taken_port(self) -> None:
        """A taken port is one line that names host and port."""
        port = await self.listener().start()
        try:
            await self.listener(port=port).start()
        except ConfigError as error:
            self.assertEqual(str(error), f"[server] cannot listen on 127.0.0.1, port {port}: Address already in use")
        else:
            self.fail("two listeners on one port")

    async def test_probe(self) -> None:
        """A probe tells of a taken port in the same words, and takes nothing itself."""
        free = self.listener(port=free_port())
        free.probe()
        port = await free.start()
        with self.assertRaises(ConfigError) as caught:
            self.listener(port=port).probe()
        self.assertEqual(
            str(caught.exception), f"[server] cannot listen on 127.0.0.1, port {port}: Address already in use"
        )
        self.listener(port=0).probe()
        with self.assertRaises(ConfigError):
            self.listener(host="192.0.2.1", port=port).probe()

    async def test_unusable_hosts(self) -> None:
        """An address that is not this machine's is refused in the same way."""
        for host in ("192.0.2.1", "no.such.host.invalid"):
            try:
                await self.listener(host=host).start()
            except ConfigError as error:
                self.assertIn(host, str(error))
            else:
                self.fail(f"it listens on {host}")

    async def test_h04_idle_connections(self) -> None:
        """H04: 500 idle connections cost under 20 MB, and the node answers beside them."""
        port = await self.listener().start()
        await deferToThread(get, HTTPConnection("127.0.0.1", port, timeout=10))
        before = psutil.Process().memory_info().rss

        def open_many() -> list[socket.socket]:
            return [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(500)]

        idle = await deferToThread(open_many)
        status, _ = await deferToThread(get, HTTPConnection("127.0.0.1", port, timeout=10))
        grown = psutil.Process().memory_info().rss - before
        for one in idle:
            one.close()
        self.assertEqual(status, 200)
        self.assertLess(grown, 20 * 2**20)

    async def test_h04_beyond_the_number(self) -> None:
        """H04: with more idle connections than may wait, the oldest are closed and the node still answers."""
        site = self.site(HttpLimits(waiting=20))
        port = await self.listener(site).start()

        def crowd() -> tuple[list[socket.socket], int]:
            crowd = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(60)]
            return crowd, get(HTTPConnection("127.0.0.1", port, timeout=10))[0]

        idle, status = await deferToThread(crowd)
        self.assertEqual(status, 200)
        self.assertLessEqual(len(site.room), 20)
        for one in idle:
            one.close()


class Tls(ListenerCase):
    """`[tls]`."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority("our CA")
        self.ca = write(self.folder / "ca.crt", pem(self.authority.certificate))
        self.files = self.authority.issue(self.folder, "localhost", addresses=["127.0.0.1"])

    def context(self, files: TlsConfig | None = None) -> ssl.SSLContext:
        found = ssl.create_default_context(cafile=str(self.ca))
        found.set_alpn_protocols(["h2", "http/1.1"])
        if files is not None:
            found.load_cert_chain(str(files.certificate), str(files.key))
        return found

    async def test_https(self) -> None:
        """With a certificate the same addresses speak TLS 1.3, and HTTP/1.1 to whoever would rather have HTTP/2."""
        port = await self.listener(tls=TlsContexts(self.files).server()).start()

        def look() -> tuple[str | None, str | None, int]:
            connection = HTTPSConnection("127.0.0.1", port, timeout=10, context=self.context())
            connection.connect()
            version, chosen = connection.sock.version(), connection.sock.selected_alpn_protocol()
            return version, chosen, get(connection)[0]

        version, chosen, status = await deferToThread(look)
        self.assertEqual((version, status), ("TLSv1.3", 200))
        self.assertIn(chosen, (None, "http/1.1"))

    async def test_m01_client_certificates(self) -> None:
        """M01: with `client_ca` a peer without a certificate gets no answer, one with it does."""
        both = TlsConfig(certificate=self.files.certificate, key=self.files.key, client_ca=self.ca)
        port = await self.listener(tls=TlsContexts(both).server()).start()

        def refused() -> bool:
            try:
                get(HTTPSConnection("127.0.0.1", port, timeout=10, context=self.context()))
            except OSError:
                return True
            return False

        self.assertTrue(await deferToThread(refused))
        good = HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=self.context(self.authority.issue(self.folder, "me"))
        )
        self.assertEqual((await deferToThread(get, good))[0], 200)


class Control(ListenerCase):
    """`[paths] control_socket`."""

    def control(self) -> ControlListener:
        class NoMint:
            def mint(self, *args: Any, **how: Any) -> MintedToken:
                raise NotImplementedError

        async def node() -> dict[str, Any]:
            return {"nodeId": "node_a"}

        self.ears = Ears()
        found = ControlListener(
            path=self.folder / "run" / "d.sock", reactor=reactor, tasks=self.tasks, bus=self.ears,
            intake=Inbox(self.ears), directory=Servers(), sessions=list, mint=NoMint(), node=node,
        )  # fmt: skip
        self.addCleanup(lambda: ended(found.stop))
        return found

    def connect(self) -> HTTPConnection:
        connection = HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        connection.sock.connect(str(self.folder / "run" / "d.sock"))
        return connection

    async def test_the_file(self) -> None:
        """The socket has mode 0600 while it is open and is gone after the stop."""
        control = self.control()
        await control.start()
        path = self.folder / "run" / "d.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        status, body = await deferToThread(lambda: get(self.connect(), "/v1/node"))
        self.assertEqual((status, body), (200, {"nodeId": "node_a"}))
        await control.stop()
        self.assertEqual(os.listdir(path.parent), [])

    async def test_a_second_one(self) -> None:
        """A live socket is refused to a second daemon, and goes on working; a dead one's file is taken over."""
        first = self.control()
        await first.start()
        try:
            await self.control().start()
        except ConfigError as error:
            self.assertIn("another daemon", str(error))
        else:
            self.fail("two daemons on one control socket")
        self.assertEqual((await deferToThread(lambda: get(self.connect(), "/v1/node")))[0], 200)
        await first.stop()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.folder / "run" / "d.sock"))
        await self.control().start()
        self.assertEqual((await deferToThread(lambda: get(self.connect(), "/v1/node")))[0], 200)

    async def test_a_file_that_was_removed(self) -> None:
        """The stop ends although somebody has removed the socket's file."""
        control = self.control()
        await control.start()
        (self.folder / "run" / "d.sock").unlink()
        await control.stop()

    async def test_a_command(self) -> None:
        """A command's lines come one by one, the last one ends the answer."""
        control = self.control()
        await control.start()
        acked = threading.Event()

        def send() -> list[Any]:
            connection = self.connect()
            connection.request("POST", "/v1/commands", b'{"id":"c1","type":"t"}')
            answer = connection.getresponse()
            lines = [json.loads(answer.readline())]
            acked.set()
            lines += [json.loads(line) for line in answer]
            connection.close()
            return lines

        def finish() -> None:
            acked.wait(10)
            reactor.callFromThread(self.ears.say, "command.result", commandId="c1")

        running = deferToThread(send)
        await deferToThread(finish)
        self.assertEqual([line["type"] for line in await running], ["command.ack", "command.result"])
