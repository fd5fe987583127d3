"""Logs, pulls and the event feed against a scripted dockerd: bounds, progress, silence."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Awaitable

from twisted.internet.defer import Deferred

from stellarstack.config import RegistryConfig, Secret
from stellarstack.docker.containers import LOGS_MAX
from stellarstack.docker.images import PULL_IDLE
from stellarstack.errors import (
    DockerUnavailable,
    ImagePullFailed,
    TimedOut,
)
from stellarstack.interfaces import PullProgress, RegistryLogin
from tests.dockerd_case import TTY, DockerdCase
from tests.engine_ears import deferred


class LogTests(DockerdCase):
    """The engine's copy of the output."""

    async def test_frames(self) -> None:
        """Without a terminal the frames are taken out of the log."""
        self.dockerd.replies("GET", "/containers/c/json", 200, {"Config": {"Tty": False}})
        frames = b"\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x04two\n"
        self.dockerd.replies("GET", "/containers/c/logs", 200, frames)
        self.assertEqual(await self.engine.logs("c", since=12.5, tail=7), b"one\ntwo\n")
        asked = self.dockerd.asked[-1].params
        self.assertEqual((asked["since"], asked["tail"]), ("12.500000000", "7"))

    async def test_bound(self) -> None:
        """A huge log costs at most the limit: the newest whole lines are kept."""
        piece, newest = b"x" * 99_999 + b"\n", b"the newest\n"
        self.dockerd.replies("GET", "/containers/c/json", 200, TTY)
        self.dockerd.streams("GET", "/containers/c/logs", *[piece] * 200, newest)
        kept = await self.engine.logs("c")
        self.assertEqual(kept, piece * ((LOGS_MAX - len(newest)) // len(piece)) + newest)


class PullTests(DockerdCase):
    """Images on their way in."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[PullProgress] = []

    def pulls(self, *lines: object) -> None:
        self.dockerd.streams("POST", "/images/create", *(json.dumps(line).encode() + b"\r\n" for line in lines))

    async def test_progress(self) -> None:
        """Progress counts the bytes of all layers, layers that were here already among them, and never goes back."""
        self.pulls(
            {"status": "Pulling from a/b", "id": "1.2"},
            {"status": "Pulling fs layer", "id": "l1"},
            {"status": "Already exists", "id": "l0"},
            {"status": "Downloading", "id": "l1", "progressDetail": {"current": 10, "total": 40}},
            {"status": "Downloading", "id": "l1", "progressDetail": {"current": 40, "total": 40}},
            {"status": "Extracting", "id": "l1", "progressDetail": {"current": 1, "total": 40}},
            {"status": "Pull complete", "id": "l1"},
            {"status": "Status: Downloaded newer image for a/b:1.2"},
        )
        await self.engine.pull("a/b:1.2", None, self.told.append)
        self.assertEqual([one.percent for one in self.told], [None, None, 25, 100])
        self.assertEqual(self.told[-1], PullProgress(done=40, total=40, layers=2))
        self.assertEqual(self.dockerd.asked[-1].params, {"fromImage": "a/b", "tag": "1.2"})
        self.assertNotIn("x-registry-auth", self.dockerd.asked[-1].headers)

    async def test_error_within(self) -> None:
        """An error inside the stream ends the pull with the engine's words."""
        self.pulls({"status": "x"}, {"errorDetail": {"message": "toomanyrequests"}, "error": "toomanyrequests"})
        self.assertIn("toomanyrequests", await self.refused(ImagePullFailed, self.pull("a")))

    async def test_refused(self) -> None:
        """A refusal by status is ImagePullFailed too."""
        self.dockerd.replies("POST", "/images/create", 404, {"message": "pull access denied for a"})
        self.assertIn("access denied", await self.refused(ImagePullFailed, self.pull("a")))

    async def test_login(self) -> None:
        """D04: credentials go in their header, by hand or from `[docker.registries]`, and into no message."""
        login = RegistryLogin("ghcr.io", "me", "s3cret+/")
        self.dockerd.replies("POST", "/images/create", 500, {"message": "bad login me:s3cret+/"})
        text = await self.refused(ImagePullFailed, self.engine.pull("ghcr.io/a", login, self.told.append))
        self.assertNotIn("s3cret", text)
        self.assertNotIn("s3cret", repr(login))
        sent = json.loads(urlsafe_b64decode(self.dockerd.asked[-1].headers["x-registry-auth"]))
        self.assertEqual(sent, {"username": "me", "password": "s3cret+/", "serveraddress": "ghcr.io"})
        registries = {"ghcr.io": RegistryConfig(username="you", password=Secret("other"))}
        engine = self.engine_with(registries=registries)
        await self.refused(ImagePullFailed, engine.pull("ghcr.io/a", None, self.told.append))
        sent = json.loads(urlsafe_b64decode(self.dockerd.asked[-1].headers["x-registry-auth"]))
        self.assertEqual(sent["username"], "you")
        await self.refused(ImagePullFailed, engine.pull("quay.io/a", None, self.told.append))
        self.assertNotIn("x-registry-auth", self.dockerd.asked[-1].headers)

    async def test_silence(self) -> None:
        """K02: a pull that the engine says nothing about for 300 s ends; one that goes on does not, until its limit."""
        self.dockerd.script("POST", "/images/create", lambda c, _: c.begin())
        asked = self.dockerd.request("/images/create")
        work = deferred(self.pull("a"))
        connection = await asked
        for current in range(1, 4):
            self.clock.advance(PULL_IDLE - 1)
            progress = self.next_progress()
            detail = {"current": current, "total": 9}
            line = {"status": "Downloading", "id": "l", "progressDetail": detail}
            connection.chunk(json.dumps(line).encode() + b"\n")
            await progress
        self.clock.advance(PULL_IDLE + 1)
        self.assertIn("300 s", await self.refused(TimedOut, work))
        await connection.closed

    async def test_limit(self) -> None:
        """A pull ends at `[docker] pull_timeout`, whatever it says meanwhile."""
        asked = self.dockerd.request("/images/create")
        work = deferred(self.engine_with(pull_timeout=100.0).pull("a", None, self.told.append))
        connection = await asked
        self.clock.advance(101)
        self.assertIn("100 s", await self.refused(TimedOut, work))
        await connection.closed

    def pull(self, image: str) -> Awaitable[None]:
        return self.engine.pull(image, None, self._progress)

    def next_progress(self) -> Deferred[None]:
        self._next: Deferred[None] = Deferred()
        return self._next

    def _progress(self, progress: PullProgress) -> None:
        self.told.append(progress)
        self._next.callback(None)


class FeedTests(DockerdCase):
    """The event feed."""

    async def test_asks(self) -> None:
        """The feed asks for containers of nodes, from the time on; its end is DockerUnavailable."""
        asked = self.dockerd.request("/events")
        self.dockerd.streams("GET", "/events")
        connected: Deferred[None] = Deferred()
        work = deferred(self.engine.follow_events(5.25, lambda _: None, lambda: connected.callback(None)))
        await asked
        await connected
        await self.refused(DockerUnavailable, work)
        params = self.dockerd.asked[-1].params
        self.assertEqual(params["since"], "5.250000000")
        self.assertEqual(json.loads(params["filters"]), {"type": ["container"], "label": ["stellarstack.node"]})

    async def test_refused(self) -> None:
        """A feed that is refused is not connected."""
        self.dockerd.replies("GET", "/events", 500, {"message": "no"})
        connected: list[None] = []
        work = self.engine.follow_events(0, lambda _: None, lambda: connected.append(None))
        await self.refused(DockerUnavailable, work)
        self.assertEqual(connected, [])
