"""The control socket: commands and their events, the listings, tokens, and who may hold its path (PROTOCOL 10)."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.api.control import MAX_STREAMS, ControlListener
from stellarstack.api.control_tokens import Mint
from stellarstack.api.http_lines import FLUSH_WITHIN, MAX_WAITING
from stellarstack.auth.token import ConsoleTokens, MintedToken
from stellarstack.config import AuthConfig, Secret
from stellarstack.core.claims import CAN_READ, CAN_WRITE
from stellarstack.core.messages import Event, Json, Origin
from stellarstack.core.records import ServerStatus
from stellarstack.errors import ConfigError, InvalidState, StoreFailed
from stellarstack.tasks import Tasks
from tests.api_wire import Got, Peer, pass_time
from tests.fakes import MemoryStore
from tests.household import GAME, World


class Ears:
    """Meets EventBus as far as listeners go."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str, bytes], None]] = []

    async def emit(self, *events: Event) -> None:
        for event in events:
            self.publish(event)

    def publish(self, event: Event) -> None:
        self.say(event.type, **dict(event.fields))

    def say(self, kind: str, **fields: Json) -> None:
        """An event, as its body stands on the wire."""
        for listener in list(self.listeners):
            listener(kind, json.dumps({"type": kind, **fields}).encode())

    def listen(self, listener: Callable[[str, bytes], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener) if listener in self.listeners else None


class Servers:
    """Meets ServerDirectory with one server."""

    def status_of(self, server_id: str) -> ServerStatus | None:
        return ServerStatus.RUNNING if server_id == "srv_1" else None

    def name_of(self, server_id: str) -> str | None:
        return "Grün" if server_id == "srv_1" else None

    def listing(self) -> Sequence[Mapping[str, Json]]:
        return [{"serverId": "srv_1", "name": "Grün", "status": "running"}]


class Inbox:
    """Meets Intake: keeps what comes, and says the ack unless the test wants otherwise."""

    def __init__(self, ears: Ears) -> None:
        self.ears = ears
        self.got: list[Any] = []
        self.raw = b""
        self.before: Callable[[str], None] = self.ack
        self.wait: Deferred[None] | None = None
        self.fault: Exception | None = None

    def ack(self, command_id: str) -> None:
        self.ears.say("command.ack", commandId=command_id)

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        assert origin is Origin.CONTROL and entry_id is None
        self.raw = raw
        self.got.append(json.loads(raw))
        if self.wait is not None:
            await self.wait
        if self.fault is not None:
            raise self.fault
        self.before(str(self.got[-1].get("id")))


class ControlCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.tasks = Tasks()
        self.ears = Ears()
        self.inbox = Inbox(self.ears)
        self.folder = Path(tempfile.mkdtemp(prefix="ctl"))
        self.addCleanup(self._remove)
        self.path = self.folder / "daemon.sock"
        self.tokens = ConsoleTokens(
            node_id="node_a", auth=AuthConfig(jwt_secret=Secret("s" * 40)), secret=None, store=MemoryStore(),
            now=lambda: 1_700_000_000.0,
        )  # fmt: skip
        self.control = self.make()
        self.site = self.control.site

    def _remove(self) -> None:
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        self.folder.rmdir()

    def make(self, mint: Mint | None = None, **how: Any) -> ControlListener:
        async def node() -> Mapping[str, Json]:
            return {"nodeId": "node_a", "state": "ONLINE"}

        rooms: dict[str, Any] = {
            "path": self.path, "reactor": self.clock, "tasks": self.tasks, "intake": self.inbox, "bus": self.ears,
            "directory": Servers(), "sessions": lambda: [{"id": 1, "serverId": "srv_1", "via": "ssh"}],
            "mint": mint or self.tokens, "node": node,
        }  # fmt: skip
        return ControlListener(**{**rooms, **how})

    def get(self, target: str, method: str = "GET", body: Any = None) -> Got:
        peer = Peer(self.site)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        peer.ask(method, target, raw)
        return peer.answer

    def command(self, **body: Any) -> Peer:
        """Sends a command; its answer may still be going on."""
        peer = Peer(self.site)
        peer.ask("POST", "/v1/commands", json.dumps(body).encode())
        return peer

    def kinds(self, peer: Peer) -> list[str]:
        return [line["type"] for line in peer.answer.lines]

    def over(self, peer: Peer) -> bool:
        """Whether the whole answer is there."""
        return peer.raw.endswith(b"0\r\n\r\n")


class Commands(ControlCase):
    """`POST /v1/commands`."""

    def test_ack_to_result(self) -> None:
        """The ack comes at once, the result when it is there, and with it the answer ends."""
        peer = self.command(id="c1", type="server.start", payload={"serverId": "srv_1"})
        self.assertEqual(self.inbox.got, [{"id": "c1", "type": "server.start", "payload": {"serverId": "srv_1"}}])
        self.assertEqual((peer.answer.status, peer.answer.headers["content-type"]), (200, "application/x-ndjson"))
        self.assertEqual(self.kinds(peer), ["command.ack"])
        self.assertFalse(self.over(peer))
        self.ears.say("command.result", commandId="c1", status="succeeded", result={"status": "running"})
        self.assertEqual(peer.answer.lines[1]["result"], {"status": "running"})
        self.assertTrue(self.over(peer))
        self.assertEqual(self.ears.listeners, [])

    def test_the_body_goes_in_as_it_is(self) -> None:
        """A command with an id reaches the intake byte for byte."""
        raw = b'{ "id":"c1",  "type":"t", "payload":{"n":1.50} }'
        peer = Peer(self.site)
        peer.ask("POST", "/v1/commands", raw)
        self.assertEqual(self.inbox.raw, raw)

    def test_id_made(self) -> None:
        """A command without an id gets one, which its events carry."""
        for body in ({"type": "node.info"}, {"type": "node.info", "id": None}):
            peer = self.command(**body)
            made = self.inbox.got[-1]["id"]
            self.assertTrue(made.startswith("ctl_"))
            self.ears.say("command.result", commandId=made, status="succeeded")
            self.assertEqual({line["commandId"] for line in peer.answer.lines}, {made})
        self.assertNotEqual(self.inbox.got[0]["id"], self.inbox.got[1]["id"])

    def test_progress_of_its_server(self) -> None:
        """What is told about the command's server meanwhile comes along; nothing of others does."""
        peer = self.command(id="c1", type="server.create", serverId="srv_1")
        for server in ("srv_1", "srv_2"):
            for kind in ("deployment.progress", "install.output", "server.status", "server.metrics", "server.log"):
                self.ears.say(kind, serverId=server)
            self.ears.say("command.result", commandId=f"other of {server}")
        self.ears.say("heartbeat")
        self.assertEqual(self.kinds(peer), ["command.ack", "deployment.progress", "install.output", "server.status"])
        self.assertEqual({line.get("serverId", "srv_1") for line in peer.answer.lines}, {"srv_1"})

    def test_commands_of_the_node_have_no_server(self) -> None:
        """A command without a server gets its own events only."""
        peer = self.command(id="c1", type="node.info")
        self.ears.say("server.status", serverId="srv_1")
        self.ears.say("server.status")
        self.assertEqual(self.kinds(peer), ["command.ack"])

    def test_long_silence(self) -> None:
        """A command that takes an hour is waited for, in silence."""
        peer = self.command(id="c1", type="t")
        before = peer.raw
        pass_time(self.clock, 3600, 10)
        self.assertEqual((peer.raw, peer.wire.closed), (before, False))
        self.ears.say("command.result", commandId="c1")
        self.assertTrue(self.over(peer))

    def test_result_before_the_intake_answers(self) -> None:
        """A result that is there at once, as of a repeated command, comes after its ack and ends the answer."""

        def repeated(command_id: str) -> None:
            self.inbox.ack(command_id)
            self.ears.say("command.result", commandId=command_id, status="succeeded", repeat=True)

        self.inbox.before = repeated
        peer = self.command(id="c1", type="t")
        self.assertEqual(self.kinds(peer), ["command.ack", "command.result"])
        self.assertTrue(peer.answer.lines[1]["repeat"])
        self.assertTrue(self.over(peer))

    def test_refused(self) -> None:
        """A refusal without an ack is the one line."""
        self.inbox.before = lambda command_id: self.ears.say(
            "command.result", commandId=command_id, status="rejected", error={"code": "unknown_command", "message": ""}
        )
        peer = self.command(id="c1", type="t")
        self.assertEqual([line["status"] for line in peer.answer.lines], ["rejected"])
        self.assertTrue(self.over(peer))

    def test_copies_get_their_own(self) -> None:
        """A copy of a running command ends with a result after its own ack, not with one from before it."""
        self.inbox.wait = Deferred()
        peer = self.command(id="c1", type="t")
        self.ears.say("command.result", commandId="c1", status="succeeded", which="the first one's")
        self.inbox.before = lambda command_id: (
            self.inbox.ack(command_id),  # type: ignore[func-returns-value]
            self.ears.say("command.result", commandId=command_id, repeat=True),  # type: ignore[func-returns-value]
        )[0]
        self.inbox.wait.callback(None)
        self.assertEqual(self.kinds(peer), ["command.ack", "command.result"])
        self.assertTrue(peer.answer.lines[1]["repeat"])

    def test_conflicting_id(self) -> None:
        """The refusal of an id that belongs to another command is not mistaken for that one's result."""
        self.inbox.wait = Deferred()
        peer = self.command(id="c1", type="t")
        self.ears.say("command.result", commandId="c1", status="succeeded")
        self.inbox.before = lambda command_id: self.ears.say("command.result", commandId=command_id, status="rejected")
        self.inbox.wait.callback(None)
        self.assertEqual([line["status"] for line in peer.answer.lines], ["rejected"])

    def test_refused_beyond_what_is_told(self) -> None:
        """Where the node refuses in silence, because of too many refusals, the answer ends and says so."""
        self.inbox.before = lambda command_id: None
        peer = self.command(id="c1", type="t")
        self.assertEqual([line["error"]["code"] for line in peer.answer.lines], ["unavailable"])
        self.assertTrue(self.over(peer))
        self.assertEqual(self.ears.listeners, [])

    def test_unreadable_id(self) -> None:
        """With an id that is none, the refusal without an id is the answer."""
        self.inbox.before = lambda command_id: self.ears.say("command.result", commandId=None, status="rejected")
        peer = self.command(id=5, type="t")
        self.assertEqual([line["commandId"] for line in peer.answer.lines], [None])

    def test_signed(self) -> None:
        """A signed command is followed by the id inside, and goes in as it is."""
        body = {"signed": json.dumps({"id": "c9", "type": "t", "serverId": "srv_1"}), "keyId": "k", "signature": "AA"}
        self.inbox.before = lambda _: self.inbox.ack("c9")
        peer = self.command(**body)
        self.assertEqual(self.inbox.got, [body])
        self.ears.say("server.status", serverId="srv_1")
        self.ears.say("command.result", commandId="c9")
        self.assertEqual(self.kinds(peer), ["command.ack", "server.status", "command.result"])
        self.inbox.before = lambda _: self.ears.say("command.result", commandId=None, status="rejected")
        self.assertEqual(self.kinds(self.command(signed=5)), ["command.result"])

    def test_no_object(self) -> None:
        """What is no JSON object is a 400 and never reaches the intake."""
        for raw in (b"", b"nonsense", b"[]", b"\xff", b'{"a":NaN}', b'{"a":1,"a":2}', b"[" * 100_000):
            got = self.get("/v1/commands", "POST", raw)
            self.assertEqual((got.status, got.json["error"]["code"]), (400, "invalid_command"), raw[:20])
        self.assertEqual((self.inbox.got, self.ears.listeners), ([], []))

    def test_too_large(self) -> None:
        """A message over 1 MiB is a 413; one of 1 MiB is taken."""
        peer = Peer(self.site)
        peer.ask("POST", "/v1/commands", b" " * (1024 * 1024 + 1))
        self.assertEqual(peer.answer.status, 413)
        self.clock.advance(2)
        raw = b'{"id":"c1"' + b" " * (1024 * 1024 - 11) + b"}"
        peer = Peer(self.site)
        peer.ask("POST", "/v1/commands", raw)
        self.assertEqual(self.inbox.raw, raw)

    def test_nothing_kept(self) -> None:
        """Where the journal cannot commit the answer is a 503 and nothing is listened for; a bug is a 500."""
        for fault, status in ((StoreFailed("the disk is full"), 503), (ValueError("a secret"), 500)):
            self.inbox.fault = fault
            got = self.command(id="c1", type="t").answer
            self.assertEqual((got.status, got.json["error"]["code"]), (status, "internal"))
            self.assertNotIn(b"secret", got.body)
        self.assertEqual(self.ears.listeners, [])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_sender_leaves(self) -> None:
        """Whoever leaves is not listened for any longer; the command goes on."""
        peer = self.command(id="c1", type="t")
        peer.leave()
        self.assertEqual(self.ears.listeners, [])
        self.ears.say("command.result", commandId="c1")

    def test_sender_leaves_early(self) -> None:
        """Whoever leaves before the ack does not break off the intake, whatever becomes of it."""
        for fault in (None, StoreFailed("full")):
            waiting = self.inbox.wait = Deferred[None]()
            self.inbox.fault = fault
            reached: list[str] = []
            self.inbox.before = reached.append
            peer = self.command(id="c1", type="t")
            peer.leave()
            waiting.callback(None)
            self.assertEqual(reached, ["c1"] if fault is None else [])
            self.assertEqual((self.ears.listeners, self.tasks.names()), ([], []))

    def test_slow_reader(self) -> None:
        """Output beyond what may wait for a slow reader is left out; its result is told nevertheless."""
        peer = self.command(id="c1", type="t", serverId="srv_1")
        peer.stop_reading()
        line = "x" * 100_000
        for _ in range(MAX_WAITING // 100_000 + 10):
            self.ears.say("install.output", serverId="srv_1", data=line)
        self.ears.say("command.result", commandId="c1")
        self.assertEqual(self.kinds(peer), ["command.ack"])
        peer.read_again()
        kinds = self.kinds(peer)
        self.assertEqual((kinds[0], kinds[-1]), ("command.ack", "command.result"))
        self.assertLessEqual(kinds.count("install.output"), MAX_WAITING // 100_000)
        self.assertTrue(self.over(peer))

    def test_stop(self) -> None:
        """At the daemon's stop the answer ends with a line that says why."""
        peer = self.command(id="c1", type="t")
        self.inbox.wait = Deferred()
        early = self.command(id="c2", type="t")
        self.successResultOf(Deferred.fromCoroutine(self.control.stop()))
        self.assertEqual(self.kinds(peer), ["command.ack", "stream.ended"])
        self.assertTrue(self.over(peer))
        self.inbox.wait.callback(None)
        self.assertEqual(self.kinds(early)[0], "command.ack")

    def test_stop_before_the_journal(self) -> None:
        """A command that the intake still judges when the daemon stops is answered by a line that says so."""
        self.inbox.wait = Deferred()
        peer = self.command(id="c1", type="t")
        self.successResultOf(Deferred.fromCoroutine(self.control.stop()))
        self.successResultOf(Deferred.fromCoroutine(self.tasks.cancel_all()))
        self.assertEqual(self.kinds(peer), ["stream.ended"])
        self.assertIn("the daemon stops", peer.answer.lines[0]["error"]["message"])
        self.assertTrue(self.over(peer))


class Events(ControlCase):
    """`GET /v1/events`."""

    def listen(self) -> Peer:
        peer = Peer(self.site)
        peer.ask("GET", "/v1/events")
        return peer

    def test_every_event(self) -> None:
        """Each event from now on is a line, as on the wire."""
        self.ears.say("heartbeat", n=0)
        peer = self.listen()
        self.assertEqual((peer.answer.status, peer.answer.lines), (200, []))
        self.ears.say("heartbeat", n=1)
        pass_time(self.clock, 3600, 10)
        self.ears.say("server.log", n=2)
        self.assertEqual(
            [(line["type"], line["n"]) for line in peer.answer.lines], [("heartbeat", 1), ("server.log", 2)]
        )
        self.assertFalse(self.over(peer))
        peer.leave()
        self.assertEqual(self.ears.listeners, [])

    def test_slow_reader(self) -> None:
        """A reader who falls behind by more than may wait is told so in a last line, and others are not harmed."""
        slow, good = self.listen(), self.listen()
        slow.stop_reading()
        for _ in range(MAX_WAITING // 100_000 + 2):
            self.ears.say("server.log", data="x" * 100_000)
        slow.read_again()
        self.assertEqual([line["type"] for line in slow.answer.lines], ["stream.dropped"])
        self.assertTrue(self.over(slow))
        self.assertEqual(len(good.answer.lines), MAX_WAITING // 100_000 + 2)
        self.assertEqual(len(self.ears.listeners), 1)

    def test_reader_who_never_reads(self) -> None:
        """One who does not even take that last line is dropped."""
        peer = self.listen()
        peer.stop_reading()
        for _ in range(MAX_WAITING // 100_000 + 2):
            self.ears.say("server.log", data="x" * 100_000)
        self.assertFalse(peer.wire.closed)
        self.clock.advance(FLUSH_WITHIN)
        self.assertTrue(peer.wire.aborted)
        self.assertEqual(self.ears.listeners, [])

    def test_number(self) -> None:
        """So many streams may be open and no more; one that ends makes room."""
        peers = [self.listen() for _ in range(MAX_STREAMS)]
        got = self.get("/v1/events")
        self.assertEqual((got.status, got.json["error"]["code"]), (503, "too_many_connections"))
        self.assertEqual(self.get("/v1/commands", "POST", {"type": "t"}).status, 503)
        peers[0].leave()
        self.assertEqual(self.listen().answer.status, 200)

    def test_head(self) -> None:
        """HEAD of a stream is answered and over."""
        peer = Peer(self.site)
        peer.ask("HEAD", "/v1/events")
        self.assertEqual(peer.answers(to_head=True)[0].status, 200)
        self.assertEqual(self.ears.listeners, [])

    def test_stop(self) -> None:
        """At the daemon's stop each reader is told."""
        peer = self.listen()
        self.successResultOf(Deferred.fromCoroutine(self.control.stop()))
        self.assertEqual([line["type"] for line in peer.answer.lines], ["stream.ended"])
        self.assertEqual(self.ears.listeners, [])


class Listings(ControlCase):
    """What is told at once."""

    def test_servers(self) -> None:
        """`GET /v1/servers` gives the directory's rows, `GET /v1/sessions` the seats'."""
        self.assertEqual(self.get("/v1/sessions").json, {"sessions": [{"id": 1, "serverId": "srv_1", "via": "ssh"}]})
        self.assertEqual(
            self.get("/v1/servers").json, {"servers": [{"serverId": "srv_1", "name": "Grün", "status": "running"}]}
        )

    def test_node(self) -> None:
        """`GET /v1/node` gives the node's facts."""
        self.assertEqual(self.get("/v1/node").json, {"nodeId": "node_a", "state": "ONLINE"})

    def test_errors(self) -> None:
        """Other addresses are 404, other methods 405, in JSON."""
        for target in ("/", "/v1", "/v1/", "/v1/x", "/health", "/v1/servers/srv_1"):
            self.assertEqual(self.get(target).json["error"]["code"], "not_found")
        for method, target in (("POST", "/v1/servers"), ("GET", "/v1/commands"), ("DELETE", "/v1/events")):
            self.assertEqual(self.get(target, method).json["error"]["code"], "method_not_allowed")


class Tokens(ControlCase):
    """`POST /v1/tokens`."""

    def mint(self, **body: Any) -> Got:
        return self.get("/v1/tokens", "POST", body)

    def claims(self, got: Got) -> Any:
        self.assertEqual(got.status, 200, got.body)
        return self.successResultOf(Deferred.fromCoroutine(self.tokens.verify(got.json["token"])))

    def test_by_default(self) -> None:
        """With a server alone the token is the local user's, allows everything, and lives 300 s."""
        got = self.mint(serverId="srv_1")
        found = self.claims(got)
        self.assertEqual((found.server_id, found.user_id, found.permissions), ("srv_1", "local", CAN_READ | CAN_WRITE))
        self.assertEqual((got.json["expiresAt"], set(got.json)), (1_700_000_300.0, {"token", "expiresAt"}))

    def test_as_asked(self) -> None:
        """User, permissions in either shape, and lifetime are as asked."""
        found = self.claims(self.mint(serverId="srv_1", userId="ann", permissions=["console.read"], lifetime=10))
        self.assertEqual(
            (found.user_id, found.permissions, found.expires_at), ("ann", {"console.read"}, 1_700_000_010.0)
        )
        found = self.claims(self.mint(serverId="srv_1", permissions={"canRead": True}))
        self.assertEqual(found.permissions, {"console.read", "stats.read"})

    def test_unknown_server(self) -> None:
        """No token is made for a server that is not there."""
        got = self.mint(serverId="srv_2")
        self.assertEqual((got.status, got.json["error"]["code"]), (404, "server_not_found"))

    def test_bad_wishes(self) -> None:
        """Each wrong key is named."""
        wrong: list[tuple[str, Any]] = [("lifetime", value) for value in (0, 311, "5", True, None, -1)]
        wrong += [("userId", value) for value in ("", 5, "a\nb", "x" * 300, None)]
        wrong += [("permissions", value) for value in ("console.read", {}, ["root"], [5], {"canRead": 1})]
        wrong += [("serverId", value) for value in ("../x", "", 5, None)]
        for key, value in wrong:
            got = self.mint(**{"serverId": "srv_1", key: value})
            self.assertEqual((got.status, got.json["error"]["code"]), (400, "invalid_payload"), (key, value))
            self.assertIn(
                f"`{key}`" if key != "permissions" or value != {"canRead": 1} else "canRead", got.body.decode()
            )
        self.assertEqual(self.get("/v1/tokens", "POST", b"nonsense").status, 400)

    def test_where_no_secret_is(self) -> None:
        """With a public key only the control plane makes tokens, and the answer says so."""

        class NoMint:
            def mint(self, *args: Any, **how: Any) -> MintedToken:
                raise InvalidState("this node holds no secret")

        self.site = self.make(NoMint()).site
        got = self.mint(serverId="srv_1")
        self.assertEqual((got.status, got.json["error"]["code"]), (409, "invalid_state"))


class ThePath(ControlCase):
    """The socket's file."""

    def start(self, control: ControlListener) -> None:
        self.successResultOf(Deferred.fromCoroutine(control.start()))

    def refused(self, control: ControlListener) -> str:
        failure = self.failureResultOf(Deferred.fromCoroutine(control.start()), ConfigError)
        self.assertIn("control_socket", str(failure.value))
        return str(failure.value)

    def hold(self, listening: bool) -> socket.socket:
        held = socket.socket(socket.AF_UNIX)
        self.addCleanup(held.close)
        held.bind(str(self.path))
        if listening:
            held.listen(0)
        return held

    def test_mode_and_folder(self) -> None:
        """It listens with mode 0600 in a folder that it makes, open to nobody's writing but the owner's."""
        path = self.folder / "run" / "stellar" / "d.sock"
        control = self.make(path=path)
        self.start(control)
        ((address, factory, _, mode, _),) = self.clock.unixServers
        self.assertEqual((address, factory, mode), (str(path), control.site, 0o600))
        self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode) & 0o022, 0)

    def test_stale_file(self) -> None:
        """A socket that nobody listens on any more is taken over."""
        self.hold(listening=False)
        self.start(self.make())
        self.assertFalse(self.path.exists())
        self.assertEqual(len(self.clock.unixServers), 1)

    def test_live_one(self) -> None:
        """One that somebody listens on is left alone, also where its queue is full."""
        held = self.hold(listening=True)
        self.assertIn("another daemon", self.refused(self.make()))
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            self.addCleanup(one.close)
            one.setblocking(False)
            one.connect_ex(str(self.path))
        self.assertIn("another daemon", self.refused(self.make()))
        self.assertTrue(self.path.exists())
        held.close()

    def test_no_socket(self) -> None:
        """A file or link of another kind is not removed."""
        self.path.write_text("precious")
        self.assertIn("no socket", self.refused(self.make()))
        self.assertEqual(self.path.read_text(), "precious")
        (self.folder / "link").symlink_to(self.folder / "nowhere")
        self.assertIn("no socket", self.refused(self.make(path=self.folder / "link")))

    def test_unusable_places(self) -> None:
        """A path that is too long, below a file, or that cannot be bound is one clear line."""
        self.assertIn("107 bytes", self.refused(self.make(path=self.folder / ("x" * 120))))
        (self.folder / "file").write_text("")
        self.refused(self.make(path=self.folder / "file" / "d.sock"))

        class Full(MemoryReactorClock):
            def listenUNIX(self, *args: Any, **how: Any) -> Any:
                raise CannotListenError(None, "path", OSError(28, "No space left on device"))

        self.assertIn("No space", self.refused(self.make(reactor=Full())))

    def test_stop_before_start(self) -> None:
        """A listener that never started stops without a word."""
        self.successResultOf(Deferred.fromCoroutine(self.control.stop()))
        self.assertEqual(os.listdir(self.folder), [])


class WholeHousehold(SynchronousTestCase):
    """The same doors before the real intake, lanes and bus."""

    def setUp(self) -> None:
        self.world = World(Path(self.mktemp()))
        self.addCleanup(self.world.kill)
        self.world.start()
        self.control = ControlListener(
            path=Path("unused"), reactor=self.world.clock, tasks=self.world.tasks, intake=self.world.intake,
            bus=self.world.bus, directory=self.world.household, sessions=list,
            mint=ConsoleTokens(
                node_id="n", auth=AuthConfig(jwt_secret=Secret("s" * 40)), secret=None, store=self.world.store,
                now=self.world.clock.seconds,
            ),
            node=self.world._node_info,
        )  # fmt: skip

    def send(self, **body: Any) -> list[Any]:
        peer = Peer(self.control.site)
        peer.ask("POST", "/v1/commands", json.dumps(body).encode())
        self.world.settle()
        clock: Clock = self.world.clock
        for _ in range(200):
            if peer.raw.endswith(b"0\r\n\r\n"):
                break
            clock.advance(0.5)
            self.world.settle()
        return peer.answer.lines

    def test_create_and_again(self) -> None:
        """A server is created, listed, and the same command sent again gets the same result with `repeat`."""
        asked = {
            "id": "c1", "type": "server.create",
            "payload": {"serverId": "srv_1", "blueprint": GAME, "config": {"memory": 64, "cpu": 0.5, "ports": [25565]}},
        }  # fmt: skip
        lines = self.send(**asked)
        self.assertEqual((lines[0]["type"], lines[-1]["type"]), ("command.ack", "command.result"))
        self.assertEqual(lines[-1]["status"], "succeeded", lines[-1])
        self.assertIn("server.status", [line["type"] for line in lines])
        again = self.send(**asked)
        self.assertEqual([line["type"] for line in again], ["command.ack", "command.result"])
        self.assertEqual((again[1]["repeat"], again[1]["result"]), (True, lines[-1]["result"]))
        peer = Peer(self.control.site)
        peer.ask("GET", "/v1/servers")
        self.assertEqual([row["serverId"] for row in peer.answer.json["servers"]], ["srv_1"])

    def test_refusals(self) -> None:
        """An unknown command, a bad payload and a used id are each one rejected result."""
        self.send(id="c1", type="node.info")
        for body, code in (
            ({"type": "no.such"}, "unknown_command"), ({"type": "server.start"}, "invalid_payload"),
            ({"id": "c1", "type": "server.list"}, "invalid_command"), ({"id": 5, "type": "t"}, "invalid_command"),
        ):  # fmt: skip
            lines = self.send(**body)
            self.assertEqual([(line["status"], line["error"]["code"]) for line in lines], [("rejected", code)])
