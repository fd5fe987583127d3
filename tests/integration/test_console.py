"""Consoles on the real Docker Engine, watched over a real port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as _reactor
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from stellarstack.config import ConsoleConfig, DockerConfig
from stellarstack.core.messages import Json
from stellarstack.docker.engine import DockerEngine
from stellarstack.tasks import sleep
from tests.console_rooms import Rooms
from tests.images import ensure_busybox_image
from tests.ws_client import HandshakeRefused, WsClient, bearer, connect

reactor: Any = _reactor
RAW = "stellarstack.console.v1.raw"
SHELL = (
    "echo ready; while read line; do case $line in size) stty size;; flood) yes 0123456789 | head -c 40000000; echo; \
echo THE END;; *) echo got $line;; esac; done"
)
COUNT = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.005; done"
_numbers = count(1)


def self_signed() -> PrivateCertificate:
    """A certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    loaded: PrivateCertificate = PrivateCertificate.loadPEM(private + made.public_bytes(Encoding.PEM))
    return loaded


class ContainerCase(TestCase):
    """Makes containers and removes them."""

    def setUp(self) -> None:
        self.image = ensure_busybox_image()
        self.engine = DockerEngine(reactor=reactor, config=DockerConfig())
        self.names: list[str] = []
        self.addCleanup(self.remove_all)

    async def make(self, script: str) -> str:
        self.names.append(f"stellarstack-test-console-{os.getpid()}-{next(_numbers)}")
        body: dict[str, Json] = {"Image": self.image, "Cmd": ["/bin/sh", "-c", script], "Tty": True, "OpenStdin": True}
        body["HostConfig"] = {"LogConfig": {"Type": "local"}, "NetworkMode": "none"}
        await self.engine.create_container(self.names[-1], body)
        return self.names[-1]

    async def remove_all(self) -> None:
        for name in self.names:
            await self.engine.remove(name)


class WatchTests(ContainerCase):
    """One node with srv_1, in this process."""

    async def serve(self, script: str = SHELL, config: ConsoleConfig | None = None) -> None:
        self.rooms = Rooms(
            engine=self.engine, directory=Path(self.mktemp()), reactor=reactor, now=time.time,
            config=config or ConsoleConfig(),
        )  # fmt: skip
        self.rooms.tokens.add("good")
        self.console = await self.rooms.open()
        self.container = await self.make(script)
        await self.console.attach(self.container)
        await self.engine.start(self.container)
        port = reactor.listenTCP(0, self.rooms.site, interface="127.0.0.1")
        self.port = port.getHost().port
        self.addCleanup(port.stopListening)
        self.addCleanup(self.rooms.close)

    async def watch(self, path: str = "/console", token: str = "good", **more: Any) -> WsClient:
        viewer = await connect("127.0.0.1", self.port, path, bearer(token), **more)
        self.addCleanup(viewer.drop)
        return viewer

    async def test_first_byte_to_last(self) -> None:
        """Attach before start: the first byte is there; typing, resizing (the PTY really changes), history."""
        await self.serve()
        viewer = await self.watch()
        ready = await viewer.recv_json()
        self.assertEqual((ready["type"], ready["from"]), ("ready", 0))
        self.assertTrue((await viewer.output("ready")).startswith("ready"))
        viewer.send_json(type="input", data="hi\r")
        await viewer.output("got hi")
        viewer.send_json(type="resize", cols=132, rows=43)
        viewer.send_json(type="ping")
        await viewer.recv_json(until="pong")
        await sleep(reactor, 0.2)
        viewer.send_json(type="input", data="size\r")
        await viewer.output("43 132")
        viewer.send_json(type="history", limit=5, before=5)
        self.assertEqual((await viewer.recv_json(until="history"))["data"], "ready")

    async def test_a_half_typed_line(self) -> None:
        """A line that a viewer has half typed, longer than a screen's, is not glued to a line entered for the panel."""
        await self.serve()
        viewer = await self.watch()
        await viewer.output("ready")
        viewer.send_json(type="input", data="say good by \x1b[A")
        await viewer.output("good by")
        self.console.enter("stop it")
        self.assertNotIn("got say", await viewer.output("got stop it"))
        viewer.send_json(type="input", data="x\x7f")
        self.console.enter("again")
        await viewer.output("got again")

    async def test_the_table_of_cases(self) -> None:
        """PROTOCOL 8's table over header and first frame, on a real socket; no frame before `ready`."""
        await self.serve()
        self.rooms.tokens.add("files", permissions=frozenset({"files.read"}))
        self.rooms.tokens.add("gone", server="srv_gone")
        cases = [
            ("bad", "", {}, 401, "unauthorized", 4401),
            ("expired", "", {}, 401, "token_expired", 4410),
            ("revoked", "", {}, 403, "forbidden", 4403),
            ("files", "", {}, 403, "forbidden", 4403),
            ("good", "", {"Origin": "https://evil.example"}, 403, "forbidden", 4403),
            ("good", "/srv_2", {}, 403, "forbidden", 4403),
            ("gone", "", {}, 404, "server_not_found", 4404),
        ]
        for token, path, headers, status, code, close in cases:
            try:
                await connect("127.0.0.1", self.port, "/console" + path, {**bearer(token), **headers})
                self.fail(f"{token} was let in")
            except HandshakeRefused as refused:
                self.assertEqual((refused.status, refused.code), (status, code))
            viewer = await connect("127.0.0.1", self.port, "/console" + path, headers)
            viewer.send_json(type="auth", token=token)
            self.assertEqual(await viewer.wait_closed(), close)
            self.assertEqual(viewer.messages(), [])

    async def test_slow_viewer_among_others(self) -> None:
        """K18: one that never reads harms nobody: the other gets 40 MB whole, the game never stalls."""
        await self.serve(config=ConsoleConfig(viewer_buffer=1 << 20))
        deaf = await self.watch(subprotocols=[RAW])
        await deaf.recv()
        deaf.transport.pauseProducing()  # type: ignore[union-attr]
        viewer = await self.watch(subprotocols=[RAW])
        await viewer.recv()
        viewer.send_bytes(b"flood\r")
        size, tail = 0, b""
        while b"THE END" not in tail:
            message = await viewer.recv(60)
            if isinstance(message, bytes):
                size += len(message)
                tail = (tail + message)[-32:]
            else:
                self.assertNotIn('"gap"', message)
        self.assertGreater(size, 40_000_000)
        deaf.transport.resumeProducing()  # type: ignore[union-attr]
        gap = await deaf.recv_json(20, until="gap")
        self.assertGreater(gap["to"], gap["from"])

    async def test_raw_and_json_agree(self) -> None:
        """Both show the same stream, and `since` goes on where a viewer was."""
        await self.serve(COUNT)
        raw, seen = await self.watch("/console?since=0", subprotocols=[RAW]), b""
        await raw.recv()
        while b"line 100\r" not in seen:
            seen += await raw.recv()  # type: ignore[operator]
        viewer = await self.watch("/console?since=0")
        text = await viewer.output("line 200\r")
        self.assertTrue(text.encode().startswith(seen[: seen.find(b"line 100\r")]))
        again = await self.watch(f"/console?since={len(seen)}", subprotocols=[RAW])
        self.assertEqual((await again.recv_json())["from"], len(seen))

    async def test_over_tls(self) -> None:
        """The same under TLS: token, input, backpressure with one gap, and the progress of the TCP below is seen."""
        await self.serve(config=ConsoleConfig(viewer_buffer=1 << 20))
        certificate = self_signed()
        port = reactor.listenSSL(0, self.rooms.site, certificate.options(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        trust = optionsForClientTLS("localhost", trustRoot=certificate)
        more: dict[str, Any] = {"subprotocols": [RAW], "tls": trust}
        deaf = await connect("localhost", port.getHost().port, "/console", bearer("good"), **more)
        self.addCleanup(deaf.drop)
        self.assertEqual((await deaf.recv_json())["type"], "ready")
        deaf.transport.pauseProducing()  # type: ignore[union-attr]
        viewer = await self.watch(subprotocols=[RAW])
        viewer.send_bytes(b"flood\r")
        tail = b""
        while b"THE END" not in tail:
            message = await viewer.recv(60)
            tail = (tail + message)[-32:] if isinstance(message, bytes) else tail
        (session,) = [one for one in self.rooms.endpoint._sessions if one._wire is not None and one._wire.full]
        assert session._wire is not None
        waiting, moved = session._wire.progress()
        self.assertTrue(waiting)
        self.assertEqual(session._wire.progress(), (True, moved))
        deaf.transport.resumeProducing()  # type: ignore[union-attr]
        await deaf.recv_json(20, until="gap")
        self.assertNotEqual(session._wire.progress()[1], moved)
        deaf.send_bytes(b"bye\r")
        seen = b""
        while b"got bye" not in seen:
            message = await deaf.recv()
            seen += message if isinstance(message, bytes) else b""

    async def test_one_that_takes_nothing(self) -> None:
        """K18: a viewer whose TCP takes nothing is closed and dropped; a quiet one is not."""
        await self.serve(config=ConsoleConfig(viewer_buffer=1 << 20, stall_deadline=1))
        deaf, quiet = await self.watch(subprotocols=[RAW]), await self.watch(subprotocols=[RAW])
        await deaf.recv()
        deaf.transport.pauseProducing()  # type: ignore[union-attr]
        quiet.send_bytes(b"flood\r")
        tail = b""
        while b"THE END" not in tail:
            message = await quiet.recv(60)
            tail = (tail + message)[-32:] if isinstance(message, bytes) else tail
        while sum(one._close is None for one in self.rooms.endpoint._sessions) != 1:
            await sleep(reactor, 0.05)
        quiet.send_bytes(b"bye\r")
        while b"got bye" not in tail:
            message = await quiet.recv()
            tail += message if isinstance(message, bytes) else b""

    async def test_stop(self) -> None:
        """An ordered stop: 1001, and the game goes on."""
        await self.serve()
        viewer = await self.watch()
        await viewer.recv_json()
        await self.rooms.endpoint.stop()
        self.assertEqual(await viewer.wait_closed(), 1001)
        await self.rooms.consoles.stop()
        self.assertTrue((await self.engine.inspect(self.container)).running)


class KillTests(ContainerCase):
    """Must-show 4 of the issue, console part: kill -9 while a server prints."""

    async def test_kill(self) -> None:
        """The game is not touched, and after two kills every line is there once, in order (or a gap tells)."""
        folder, container = str(Path(self.mktemp()).absolute()), await self.make(COUNT)
        seen, gaps = b"", 0
        for attempt in range(3):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.console_child", folder, container, *(["rejoin"] if attempt else [])],
                stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            self.addCleanup(child.wait)
            self.addCleanup(child.kill)
            assert child.stdout is not None
            port = int(await deferToThread(child.stdout.readline))
            viewer = await connect("127.0.0.1", port, f"/console?since={len(seen)}", bearer("good"), [RAW])
            self.assertEqual((await viewer.recv_json())["from"], len(seen))
            wanted = len(seen) + 2000
            while len(seen) < wanted:
                message = await viewer.recv()
                if isinstance(message, bytes):
                    seen += message
                else:
                    self.assertEqual(json.loads(message)["type"], "gap", message)
                    gaps += 1
            os.kill(child.pid, signal.SIGKILL)
            child.stdout.close()
            await viewer.wait_closed()
            await sleep(reactor, 0.5)
        numbers = [int(number) for number in re.findall(rb"line (\d+)\r\n", seen)]
        whole = list(range(1, len(numbers) + 1))
        self.assertEqual(numbers, sorted(set(numbers)) if gaps else whole)
        self.assertTrue(gaps <= 2, gaps)
        self.assertTrue((await self.engine.inspect(container)).running)
