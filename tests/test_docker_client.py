"""The DockerEngine against a scripted dockerd: timeouts, limits, broken connections, the engine's refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from stellarstack import docker
from stellarstack.config import DockerConfig
from stellarstack.core.records import PtySize
from stellarstack.docker.client import BODY_MAX
from stellarstack.docker.engine import DockerEngine
from stellarstack.docker.images import PULL_IDLE
from stellarstack.errors import (
    ContainerGone,
    DockerUnavailable,
    EngineConflict,
    EngineRefused,
    EngineTooOld,
    ImageNotFound,
    PortInUse,
    TimedOut,
    TooLarge,
)
from stellarstack.interfaces import EngineEvent
from tests.dockerd_case import DockerdCase, write_raw
from tests.engine_ears import deferred
from tests.fake_dockerd import Asked, Connection


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

    def assertNoResult(self, work: Deferred[int]) -> None:
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
        self.assertEqual(found.known_holes, ("Docker 19.03 is older than 20.10",))

    async def test_known_holes(self) -> None:
        """D03: a Docker or a runc below the floor is found out; what tells no version is not accused."""
        self.dockerd.replies("GET", "/info", 200, {})
        for version, runc, found in (
            ("20.10.24+dfsg1", "1.1.5+ds1", ("runc 1.1.5+ds1 is older than 1.2.8",)),
            ("28.0.1", "1.2.8", ()), ("28.0", "v1.3.0", ()), ("dev", "unknown", ()), ("", "", ()),
            ("18.09.1", "1.0.0-rc93", ("Docker 18.09.1 is older than 20.10", "runc 1.0.0-rc93 is older than 1.2.8")),
        ):  # fmt: skip
            parts = [{"Name": "Engine", "Version": version}, {"Name": "runc", "Version": runc}, "junk"]
            answer = {"Version": version, "ApiVersion": "1.41", "Components": parts}
            self.dockerd.replies("GET", "/version", 200, answer)
            self.assertEqual((await self.engine.version()).known_holes, found)

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

    async def test_update_refused(self) -> None:
        """A limit that the kernel does not take is told with its words, whatever the status; a broken engine is not."""
        for status, words in (
            (500, "Cannot update container c: runc did not terminate: memory.limit_in_bytes: device or resource busy"),
            (409, "Cannot update container c: Memory limit should be smaller than already set memoryswap limit"),
            (400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ):
            self.dockerd.replies("POST", "/containers/c/update", status, {"message": words})
            told = await self.refused(EngineRefused, self.engine.update_container("c", {"NanoCpus": 1}))
            self.assertIn(words, told)
        self.dockerd.replies("POST", "/containers/c/update", 500, {"message": "no space left on device"})
        self.assertNotIsInstance(
            await self.refused_any(self.engine.update_container("c", {"NanoCpus": 1})), EngineRefused
        )

    async def test_update_warnings(self) -> None:
        """What the engine could only do in part is told, one line each."""
        for body, told in (({"Warnings": ["Weight\ndiscarded.", 4]}, ["Weight discarded."]), ({"Warnings": None}, [])):
            self.dockerd.replies("POST", "/containers/c/update", 200, body)
            self.assertEqual(await self.engine.update_container("c", {"BlkioWeight": 10}), told)

    async def test_image_removal(self) -> None:
        """An image in use stays; one without an id, and one that cannot be removed, are faults of the engine."""
        self.dockerd.replies("DELETE", "/images/a:latest", 409, {"message": "conflict: container c is using it"})
        self.assertFalse(await self.engine.remove_image("a"))
        self.dockerd.replies("DELETE", "/images/a:latest", 500, {"message": "layer is locked"})
        await self.refused(DockerUnavailable, self.engine.remove_image("a"))
        self.assertEqual(self.dockerd.asked[-1].params, {})  # never by force
        self.dockerd.replies("GET", "/images/a:latest/json", 200, {})
        await self.refused(DockerUnavailable, self.engine.image_id("a"))

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


class SourceTests(TestCase):
    """What this room must not even be able to say."""

    def test_no_dangerous_calls(self) -> None:
        """D02, D03: no path of the archive, copy, build or exec API stands in the source."""
        room = Path(docker.__file__).parent
        for source in room.glob("*.py"):
            found = re.findall(r"[\"'/](?:archive|copy|build|exec|commit|export)[\"'/?]", source.read_text())
            self.assertEqual(found, [], source.name)
