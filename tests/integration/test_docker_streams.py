"""Attach, feed and connections on the real Docker Engine, where they are hard on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from stellarstack.config import DockerConfig
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.docker.attach import READ_MAX
from stellarstack.docker.engine import DockerEngine
from stellarstack.docker.keys import UNWRITTEN_MAX
from stellarstack.errors import StellarError
from tests.engine_ears import DEAF, TALK, Recorder, deferred
from tests.images import ensure_busybox_image

FLOOD = 8 << 20


class Sizes(Recorder):
    """Notes how large the pieces are, besides."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.tail = b""

    def output_received(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self.tail = (self.tail + data)[-64:]
        super().output_received(data[-64:])


class DockerStreamTests(TestCase):
    """Streams on the engine that answers on /var/run/docker.sock."""

    timeout = 120

    def setUp(self) -> None:
        self.image = ensure_busybox_image()
        self.engine = DockerEngine(reactor=reactor, config=DockerConfig())
        self._made: list[str] = []
        self.addCleanup(self._clean_up)

    async def _clean_up(self) -> None:
        for name in self._made:
            await self.engine.remove(name)

    async def make(self, script: str, **more: Json) -> str:
        name = f"streams{os.getpid()}-{len(self._made)}"
        self._made.append(name)
        body: dict[str, Json] = {
            "Image": self.image,
            "Tty": True,
            "OpenStdin": True,
            "AttachStdin": True,
            "Cmd": ["/bin/sh", "-c", script],
            "Labels": {"stellarstack.node": "node_streams"},
        }
        host: dict[str, Json] = {"LogConfig": {"Type": "local"}, "NetworkMode": "none"}
        return await self.engine.create_container(name, {**body, "HostConfig": host, **more})

    async def test_no_leak(self) -> None:
        """K29: after 200 rounds of attach, inspect, wait, feed and failing calls no descriptor and no timer is left."""
        made = await self.make(TALK)
        await self.engine.start(made)
        await self.round(made)
        before = open_files()
        for _ in range(200):
            await self.round(made)
        await deferLater(reactor, 0.05, lambda: None)
        self.assertLessEqual(open_files(), before)

    async def round(self, made: str) -> None:
        """One of each: an attach, a cancelled wait and feed, an inspect, calls that fail."""
        sink = Recorder()
        attachment = await self.engine.attach(made, sink)
        running: list[Deferred[Any]] = [
            deferred(self.engine.wait(made)),
            deferred(self.engine.follow_events(0, lambda _: None, lambda: None)),
        ]
        await self.engine.inspect(made)
        for work in (self.engine.inspect("nosuch"), self.engine.attach("nosuch", Recorder())):
            try:
                await work
            except StellarError:
                continue
            self.fail("it is not there")
        for one in running:
            one.addErrback(lambda _: None)
            one.cancel()
            await one
        attachment.close()
        await sink.ended

    async def test_flood(self) -> None:
        """A flood comes whole, in pieces of at most 256 KiB, and its end is there."""
        made = await self.make(f"yes 0123456789abcdef | head -c {FLOOD}; echo; echo THE END; exec sleep 100")
        sink = Sizes()
        await self.engine.attach(made, sink)
        await self.engine.start(made)
        await sink.has(b"THE END\r\n")
        lines = FLOOD // 17
        self.assertEqual(sum(sink.sizes), FLOOD + lines + len("\r\nTHE END\r\n"))
        self.assertLessEqual(max(sink.sizes), READ_MAX)

    async def test_keys_of_detach(self) -> None:
        """Ctrl-P Ctrl-Q, Docker's own keys to detach, are only keys: the attach goes on."""
        made = await self.make("stty raw -echo; echo ready; exec cat -v")
        sink = Recorder()
        attachment = await self.engine.attach(made, sink)
        await self.engine.start(made)
        await sink.has(b"ready")
        attachment.write(b"\x10\x11after\n")
        await sink.has(b"^P^Qafter")
        self.assertEqual(sink.ends, 0)

    async def test_resize(self) -> None:
        """The program sees the terminal's new size."""
        made = await self.make("echo ready; while read x; do stty size; done")
        sink = Recorder()
        attachment = await self.engine.attach(made, sink)
        await self.engine.start(made)
        await sink.has(b"ready")
        await self.engine.resize(made, PtySize(cols=132, rows=43))
        attachment.write(b"\r")
        await sink.has(b"43 132")

    async def test_deaf_container(self) -> None:
        """A container that does not read its input neither holds us up nor fills our memory, and can be let go of."""
        made = await self.make("stty raw -echo; " + DEAF)
        sink = Recorder()
        attachment = await self.engine.attach(made, sink)
        await self.engine.start(made)
        await sink.has(b"ready")
        for _ in range(8 * UNWRITTEN_MAX // 65536):
            attachment.write(b"k" * 65536)
        self.assertTrue((await self.engine.inspect(made)).running)
        attachment.close()
        await sink.ended

    async def test_without_terminal(self) -> None:
        """Without a terminal, attach and log give the bytes of both streams without Docker's frames."""
        made = await self.make("echo out; echo err >&2; read x; echo got $x", Tty=False)
        sink = Recorder()
        attachment = await self.engine.attach(made, sink)
        await self.engine.start(made)
        await sink.has(b"out\n")
        await sink.has(b"err\n")
        attachment.write(b"it\n")
        await sink.ended
        self.assertEqual(sorted(sink.data.split()), [b"err", b"got", b"it", b"out"])
        await self.engine.wait(made)
        self.assertEqual(sorted((await self.engine.logs(made)).split()), [b"err", b"got", b"it", b"out"])

    async def test_out_of_memory(self) -> None:
        """A container that the kernel kills for its memory says so.

        The engine hears of a kill elsewhere than of the end. Where the kernel takes the first process along, the end
        may come first, and the engine never tells: so some are looked at.
        """
        host: dict[str, Json] = {"Memory": 8 << 20, "MemorySwap": 8 << 20, "NetworkMode": "none"}
        script = "head -c 100000000 /dev/zero | tail -n 1 >/dev/null & wait $!; sleep 1"
        for _ in range(5):
            made = await self.make(script, HostConfig=host)
            await self.engine.start(made)
            await self.engine.wait(made)
            if (await self.engine.inspect(made)).oom_killed:
                return
        self.fail("five were killed, and the engine told of none")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
