"""The DockerEngine against a scripted dockerd: timeouts, limits, broken connections, the engine's refusals."""

from __future__ import annotations

import json
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from stellarstack import docker
from stellarstack.config import DockerConfig, RegistryConfig, Secret
from stellarstack.core.records import PtySize
from stellarstack.docker.client import BODY_MAX
from stellarstack.docker.containers import LOGS_MAX
from stellarstack.docker.engine import DockerEngine
from stellarstack.docker.images import PULL_IDLE
from stellarstack.errors import (
    ContainerGone,
    DockerUnavailable,
    EngineConflict,
    EngineRefused,
    EngineTooOld,
    ImageNotFound,
    ImagePullFailed,
    PortInUse,
    TimedOut,
    TooLarge,
)
from stellarstack.interfaces import EngineEvent, PullProgress, RegistryLogin
from tests.contracts import Recorder, deferred
from tests.fake_dockerd import Asked, Connection, FakeDockerd

T = TypeVar("T")

TTY = {"Id": "c", "Config": {"Tty": True}}


def write_raw(raw: bytes, connection: Connection, _: Asked, drop: bool = False) -> None:
    """A script that answers with these bytes and nothing else."""
    connection.write(raw)
    if drop:
        connection.drop()


class DockerdCase(TestCase):
    """A DockerEngine on a scripted dockerd; the clock is the test's."""

    timeout = 30

    def setUp(self) -> None:
        self.clock = Clock()
        self.dockerd = FakeDockerd(reactor, Path(self.mktemp()).absolute().parent / "d.sock")
        if len(str(self.dockerd.socket)) > 100:
            self.dockerd.socket = Path(f"/tmp/stellarstack-test-{os.getpid()}.sock")
        self.dockerd.socket.parent.mkdir(parents=True, exist_ok=True)
        self.dockerd.listen()
        self.addCleanup(self.dockerd.stop)
        self.engine = self.engine_with()

    def engine_with(self, **config: object) -> DockerEngine:
        settings = DockerConfig(socket=self.dockerd.socket, **config)  # type: ignore[arg-type]
        return DockerEngine(reactor=reactor, clock=self.clock, config=settings)

    def tearDown(self) -> None:
        self.assertEqual(self.dockerd.forbidden, [])
        self.assertEqual(self.clock.getDelayedCalls(), [], "a timer was left behind")

    async def refused(self, kind: type[Exception], work: Awaitable[object]) -> str:
        """The text of the error that `work` must end with."""
        try:
            await work
        except kind as error:
            self.assertIs(type(error), kind)
            return str(error)
        raise self.failureException(f"no {kind.__name__}")

    def calls(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Each call of the seam, by the path that it asks first."""
        engine = self.engine
        return {
            "/version": engine.version,
            "/containers/create": lambda: engine.create_container("c", {"Image": "x"}),
            "/containers/c/start": lambda: engine.start("c"),
            "/containers/c/kill": lambda: engine.kill("c", "SIGKILL"),
            "/containers/c": lambda: engine.remove("c"),
            "/containers/c/json": lambda: engine.inspect("c"),
            "/containers/json": lambda: engine.containers({"a": "b"}),
            "/containers/c/wait": lambda: engine.wait("c"),
            "/containers/c/resize": lambda: engine.resize("c", PtySize()),
            "/containers/d/json": lambda: engine.attach("d", Recorder()),
            "/containers/e/json": lambda: engine.logs("e"),
            "/containers/c/stats": lambda: engine.stats("c"),
            "/images/x:latest/json": lambda: engine.has_image("x"),
            "/images/create": lambda: engine.pull("x", None, lambda _: None),
            "/networks/create": lambda: engine.create_network("n", "10.0.0.0/28", {}),
            "/networks/n": lambda: engine.remove_network("n"),
            "/networks": lambda: engine.networks({}),
            "/events": lambda: engine.follow_events(0, lambda _: None, lambda: None),
        }


class SilenceTests(DockerdCase):
    """A dockerd that accepts and never answers (SECURITY K02)."""

    async def test_every_call_ends(self) -> None:
        """K02: each call ends with TimedOut, names what it waited for, and leaves no connection."""
        for path, call in self.calls().items():
            asked = self.dockerd.request(path)
            if path == "/version":
                self.dockerd.scripts.pop(("GET", "/version"))
            else:
                self.dockerd.replies("GET", "/version", 200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12"})
            work = deferred(call())
            connection = await asked
            self.clock.advance(PULL_IDLE + 1)
            text = await self.refused(TimedOut, work)
            self.assertIn("Docker", text)
            await connection.closed
        self.assertEqual(self.dockerd.connections, [])

    async def test_others_go_on(self) -> None:
        """K02: while one call hangs, another is answered."""
        self.dockerd.replies("GET", "/networks", 200, [])
        asked = self.dockerd.request("/containers/c/start")
        hanging = deferred(self.engine.start("c"))
        await asked
        self.assertEqual(await self.engine.networks({}), {})
        hanging.addErrback(lambda _: None)
        hanging.cancel()
        await hanging

    async def test_half_an_answer(self) -> None:
        """An answer that stops in its middle ends by the same timeout."""
        for raw in (b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"):
            self.dockerd.script("GET", "/containers/c/json", partial(write_raw, raw))
            asked = self.dockerd.request("/containers/c/json")
            work = deferred(self.engine.inspect("c"))
            connection = await asked
            self.clock.advance(31)
            await self.refused(TimedOut, work)
            await connection.closed

    async def test_cancel(self) -> None:
        """A call that is cancelled ends as cancelled and takes its connection along."""
        asked = self.dockerd.request("/containers/c/start")
        work = deferred(self.engine.start("c"))
        connection = await asked
        work.cancel()
        await self.refused(CancelledError, work)
        await connection.closed

    async def test_long_wait(self) -> None:
        """A wait whose head has come may last for days; cancelling it closes its connection."""
        self.dockerd.script("POST", "/containers/c/wait", lambda c, _: c.begin())
        for ended in (True, False):
            asked = self.dockerd.request("/containers/c/wait")
            work = deferred(self.engine.wait("c"))
            connection = await asked
            await self.idle()
            self.clock.advance(864_000)
            self.assertNoResult(work)
            if ended:
                connection.chunk(b'{"StatusCode":4}')
                connection.finish()
                self.assertEqual(await work, 4)
            else:
                work.cancel()
                await self.refused(CancelledError, work)
            await connection.closed

    async def idle(self) -> None:
        """Lets the reactor read what is there: a round trip of another call."""
        self.dockerd.replies("GET", "/networks", 200, [])
        await self.engine.networks({})

    def assertNoResult(self, work: Deferred[T]) -> None:
        self.assertFalse(work.called)


class BrokenTests(DockerdCase):
    """A dockerd that is away, dies, or speaks nonsense."""

    async def test_away(self) -> None:
        """No socket: each call is DockerUnavailable, in a word, and worth a retry."""
        await self.dockerd.stop()
        for call in self.calls().values():
            text = await self.refused(DockerUnavailable, call())
            self.assertIn("Docker does not answer", text)

    async def test_impossible_sockets(self) -> None:
        """A path that is no socket, or too long for one, is DockerUnavailable like a socket that is not there."""
        plain = self.dockerd.socket.with_name("plain")
        plain.touch()
        for bad in (plain, plain.parent, plain.with_name("x" * 200)):
            self.engine = DockerEngine(reactor=reactor, clock=self.clock, config=DockerConfig(socket=bad))
            for call in self.calls().values():
                await self.refused(DockerUnavailable, call())

    async def test_dies(self) -> None:
        """A connection that breaks before or within the answer is DockerUnavailable."""
        for begin in ((), (lambda c: c.begin(),), (lambda c: c.begin(), lambda c: c.chunk(b"{"))):

            def die(connection: Connection, _: Asked, steps: tuple[Callable[[Connection], None], ...] = begin) -> None:
                for step in steps:
                    step(connection)
                reactor.callLater(0.01, connection.drop)

            for method, path in (("GET", "/containers/c/json"), ("POST", "/containers/c/wait"), ("GET", "/events")):
                self.dockerd.script(method, path, die)
                await self.refused(DockerUnavailable, self.calls()[path]())

    async def test_nonsense(self) -> None:
        """What is no HTTP, no JSON, or JSON of another shape never becomes a bug of ours."""
        for raw in (b"\x16\x03\x01 hello\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n"):
            self.dockerd.script("GET", "/containers/c/json", partial(write_raw, raw, drop=True))
            await self.refused(DockerUnavailable, self.engine.inspect("c"))
        self.dockerd.replies("GET", "/containers/c/json", 200, b"<html>")
        await self.refused(DockerUnavailable, self.engine.inspect("c"))
        self.dockerd.replies("GET", "/containers/c/json", 200, ["?"])
        self.assertEqual((await self.engine.inspect("c")).status, "")
        for path in ("/containers/create", "/networks/create"):
            self.dockerd.replies("POST", path, 201, {})
            await self.refused(DockerUnavailable, self.calls()[path]())

    async def test_endless_answers(self) -> None:
        """A body over its limit is refused while it comes, not kept."""
        self.dockerd.replies("GET", "/containers/c/json", 200, b" " * (BODY_MAX + 1))
        self.assertIn(str(BODY_MAX), await self.refused(TooLarge, self.engine.inspect("c")))

    async def test_exchanged(self) -> None:
        """A Docker that comes back as a newer one is asked for its API version again."""
        self.dockerd.replies("GET", "/networks", 200, [])
        await self.engine.networks({})
        self.dockerd.replies("GET", "/version", 200, {"ApiVersion": "1.52", "MinAPIVersion": "1.44"})
        words = "client version 1.41 is too old. Minimum supported API version is 1.44"
        self.dockerd.replies("GET", "/networks", 400, {"message": words})
        await self.refused(DockerUnavailable, self.engine.networks({}))
        self.dockerd.replies("GET", "/networks", 200, [])
        await self.engine.networks({})
        self.assertEqual(self.dockerd.asked[-1].version, "v1.44")

    async def test_too_old(self) -> None:
        """A Docker before API 1.40 is EngineTooOld, whichever call comes first; 1.40 itself will do."""
        self.dockerd.replies("GET", "/version", 200, {"ApiVersion": "1.39"})
        await self.refused(EngineTooOld, self.engine.version())
        self.assertIn("1.39", await self.refused(EngineTooOld, self.engine.start("c")))
        self.dockerd.replies("GET", "/version", 200, {"Version": "19.03", "ApiVersion": "1.40"})
        self.dockerd.replies("GET", "/info", 200, {"CgroupVersion": "2", "LiveRestoreEnabled": True})
        found = await self.engine.version()
        self.assertEqual((found.version, found.api, found.cgroup, found.live_restore), ("19.03", (1, 40), 2, True))

    async def test_callback_that_raises(self) -> None:
        """An error of who listens to the feed reaches who follows it, and ends the connection."""
        line = json.dumps({"Type": "container", "Action": "die", "Actor": {"ID": "c"}}).encode() + b"\n"
        self.dockerd.streams("GET", "/events", line, line, finish=False)
        asked = self.dockerd.request("/events")

        def received(_: EngineEvent) -> None:
            raise KeyError("bug")

        work = deferred(self.engine.follow_events(0, received, lambda: None))
        connection = await asked
        await self.refused(KeyError, work)
        await connection.closed


class RefusalTests(DockerdCase):
    """The engine says no."""

    async def test_port_of_a_stranger(self) -> None:
        """A port that no container holds is held by a program outside Docker; an unnamed port is told as it was."""
        words = "driver failed: listen tcp4 0.0.0.0:8080: bind: address already in use"
        self.dockerd.replies("POST", "/containers/c/start", 500, {"message": words})
        self.dockerd.replies("GET", "/containers/json", 200, [])
        text = await self.refused(PortInUse, self.engine.start("c"))
        self.assertIn("port 8080", text)
        self.assertIn("outside Docker", text)
        self.dockerd.replies("POST", "/containers/c/start", 500, {"message": "address already in use"})
        self.assertIn("a port", await self.refused(PortInUse, self.engine.start("c")))

    async def test_start_refused(self) -> None:
        """A start that fails for the container's own sake tells why and is not worth a retry."""
        words = 'OCI runtime create failed: exec: "nosuch": executable file not found in $PATH\r\n: unknown'
        self.dockerd.replies("POST", "/containers/c/start", 400, {"message": words})
        self.assertIn("nosuch", await self.refused(EngineRefused, self.engine.start("c")))

    async def test_kill_that_comes_too_late(self) -> None:
        """A container that ends while it is killed is no error; another conflict is one."""
        for status, words in ((500, "cannot kill container: c: no such process"), (409, "container c is not running")):
            self.dockerd.replies("POST", "/containers/c/kill", status, {"message": words})
            await self.engine.kill("c", "SIGKILL")
        self.dockerd.replies("POST", "/containers/c/kill", 409, {"message": "busy"})
        await self.refused(EngineConflict, self.engine.kill("c", "SIGKILL"))

    async def test_remove_under_way(self) -> None:
        """A container that somebody is removing already is waited for."""
        words = "removal of container c is already in progress"
        self.dockerd.replies("DELETE", "/containers/c", 409, {"message": words})
        self.dockerd.replies("POST", "/containers/c/wait", 200, {"StatusCode": 0})
        await self.engine.remove("c")
        self.assertEqual(self.dockerd.asked[-1].params, {"condition": "removed"})
        self.dockerd.replies("POST", "/containers/c/wait", 404, {"message": "No such container: c"})
        await self.engine.remove("c")

    async def test_names_that_are_paths(self) -> None:
        """A name that is none never becomes part of a path."""
        for bad in ("", "..", "../x", "a/b", "a?x=1", "a%2f", "a\n"):
            text = str(await self.refused_any(self.engine.start(bad)))
            self.assertIn("no container", text)
            await self.engine.remove(bad)
        self.assertEqual([asked.path for asked in self.dockerd.asked], [])

    async def refused_any(self, work: Awaitable[object]) -> DockerUnavailable:
        try:
            await work
        except DockerUnavailable as error:
            return error
        raise self.failureException("no error")

    async def test_what_is_missing(self) -> None:
        """A 404 names what is missing: an image, a container, or something else that it needs."""
        for words, kind in (("No such image: x", ImageNotFound), ("network n not found", EngineRefused)):
            self.dockerd.replies("POST", "/containers/create", 404, {"message": words})
            await self.refused(kind, self.engine.create_container("c", {"Image": "x"}))
        for words, gone in (("No such container: c", ContainerGone), ("network n not found", EngineRefused)):
            self.dockerd.replies("POST", "/containers/c/start", 404, {"message": words})
            await self.refused(gone, self.engine.start("c"))
        self.dockerd.replies("GET", "/images/x:latest/json", 404, {"message": "No such image: x"})
        self.assertFalse(await self.engine.has_image("x"))
        self.dockerd.replies("GET", "/images/x:latest/json", 500, {"message": "disk"})
        await self.refused(DockerUnavailable, self.engine.has_image("x"))

    async def test_already_so(self) -> None:
        """A start of a running one, a resize of one that does not run, a list with odd rows: no error."""
        self.dockerd.replies("POST", "/containers/c/start", 304, b"")
        await self.engine.start("c")
        self.dockerd.replies("POST", "/containers/c/resize", 409, {"message": "Container c is not running"})
        await self.engine.resize("c", PtySize(cols=100, rows=40))
        self.assertEqual(self.dockerd.asked[-1].params, {"h": "40", "w": "100"})
        row = {"Id": "c", "Names": ["/game"], "State": "paused", "Labels": {"a": "b"},
               "NetworkSettings": {"Networks": {"n": {"IPAddress": "10.0.0.2"}, "m": {}}}}  # fmt: skip
        self.dockerd.replies("GET", "/containers/json", 200, [row, {}])
        game, odd = await self.engine.containers({})
        self.assertEqual(
            (game.name, game.running, game.labels, game.addresses), ("game", True, {"a": "b"}, {"n": "10.0.0.2"})
        )
        self.assertEqual((odd.id, odd.name, odd.running), ("", "", False))

    async def test_wait_with_an_error(self) -> None:
        """A wait that the engine ends with an error of its own raises it."""
        self.dockerd.replies("POST", "/containers/c/wait", 200, {"StatusCode": -1, "Error": {"Message": "lost it"}})
        self.assertIn("lost it", await self.refused(DockerUnavailable, self.engine.wait("c")))


class NetworkTests(DockerdCase):
    """The engine's networks."""

    async def test_conflicts_by_their_words(self) -> None:
        """A conflict is EngineConflict whatever the status; another refusal is not."""
        for status, words, kind in (
            (403, "Pool overlaps with other one on this address space", EngineConflict),
            (403, "error while removing network: network n has active endpoints", EngineConflict),
            (409, "network with name n already exists", EngineConflict),
            (400, "invalid CIDR address", EngineRefused),
            (500, "iptables failed", DockerUnavailable),
        ):
            self.dockerd.replies("POST", "/networks/create", status, {"message": words})
            self.dockerd.replies("DELETE", "/networks/n", status, {"message": words})
            self.assertIn(words, await self.refused(kind, self.engine.create_network("n", "10.0.0.0/28", {})))
            self.assertIn(words, await self.refused(kind, self.engine.remove_network("n")))

    async def test_made_and_listed(self) -> None:
        """A network is a bridge with the subnet and labels asked for; those without subnets are listed too."""
        self.dockerd.replies("POST", "/networks/create", 201, {"Id": "n1"})
        self.assertEqual(await self.engine.create_network("n", "10.0.0.0/28", {"a": "b"}), "n1")
        body = self.dockerd.asked[-1].body
        self.assertEqual((body["Driver"], body["IPAM"]["Config"], body["Labels"]),
                         ("bridge", [{"Subnet": "10.0.0.0/28"}], {"a": "b"}))  # fmt: skip
        rows = [{"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.0/28"}, {}]}}, {"Name": "none", "IPAM": {}}, {}]
        self.dockerd.replies("GET", "/networks", 200, rows)
        self.assertEqual(await self.engine.networks({"a": "b"}), {"n": ("10.0.0.0/28",), "none": ()})
        self.assertEqual(json.loads(self.dockerd.asked[-1].params["filters"]), {"label": ["a=b"]})


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


class SourceTests(TestCase):
    """What this room must not even be able to say."""

    def test_no_dangerous_calls(self) -> None:
        """D02, D03: no path of the archive, copy, build or exec API stands in the source."""
        room = Path(docker.__file__).parent
        for source in room.glob("*.py"):
            found = re.findall(r"[\"'/](?:archive|copy|build|exec|commit|export)[\"'/?]", source.read_text())
            self.assertEqual(found, [], source.name)
