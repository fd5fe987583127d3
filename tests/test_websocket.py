"""The console's WebSocket door, in memory: PROTOCOL 8 case by case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import ConsoleConfig
from stellarstack.core.messages import Json
from stellarstack.viewing import Viewer
from tests.console_rooms import Rooms, inline
from tests.fake_container import Program
from tests.fake_engine import FakeEngine
from tests.ws_client import BINARY, CLOSE, TEXT, HandshakeRefused, MemoryEnd, WsClient, bearer, connect_memory, settle

RAW = "stellarstack.console.v1.raw"
JSON = "stellarstack.console.v1"
WALL = 1_700_000_000.0
STARTED = [{"offset": 0, "at": WALL, "event": "started"}]


class DoorCase(SynchronousTestCase):
    """A node with one running server, srv_1, that has printed a line."""

    config = ConsoleConfig()
    allowed_origins: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.clock = Clock()
        program = Program(output="hello\n", replies={"list": "nobody\n"})
        self.engine = FakeEngine(clock=self.clock, images={"game": program})
        self.rooms = Rooms(
            engine=self.engine, directory=Path(self.mktemp()), reactor=self.clock, now=self.wall, in_thread=inline,
            config=self.config, allowed_origins=self.allowed_origins,
        )  # fmt: skip
        self.token = self.rooms.tokens.add("good")
        self.console = self.now(self.rooms.open())
        body: dict[str, Json] = {"Image": "game", "Tty": True, "OpenStdin": True}
        self.container = self.now(self.engine.create_container("game_1", body))
        self.now(self.console.attach(self.container))
        self.now(self.engine.start(self.container))
        self.addCleanup(self.shut)

    def shut(self) -> None:
        closing = self.start(self.rooms.close())
        for _ in range(30):
            settle(self.clock, 1)
        self.successResultOf(closing)

    def wall(self) -> float:
        return WALL + self.clock.seconds()

    def start(self, coroutine: Any) -> Any:
        found = ensureDeferred(coroutine)
        settle(self.clock)
        return found

    def now(self, coroutine: Any) -> Any:
        return self.successResultOf(self.start(coroutine))

    def dial(self, path: str = "/console", token: str | None = "good", **more: Any) -> tuple[WsClient, MemoryEnd]:
        headers = {**(bearer(token) if token is not None else {}), **more.pop("headers", {})}
        return connect_memory(self.clock, self.rooms.site, path, headers, **more)

    def join(self, path: str = "/console", token: str | None = "good", **more: Any) -> WsClient:
        viewer, _ = self.dial(path, token, **more)
        self.successResultOf(viewer.opened)
        return viewer

    def refused(self, path: str = "/console", token: str | None = "good", **more: Any) -> HandshakeRefused:
        viewer, _ = self.dial(path, token, **more)
        settle(self.clock)
        failure = self.failureResultOf(viewer.opened, HandshakeRefused)
        assert isinstance(failure.value, HandshakeRefused)
        return failure.value

    def first_frame(self, token: str, path: str = "/console", **more: Any) -> WsClient:
        viewer = self.join(path, None, **more)
        viewer.send_json(type="auth", token=token)
        settle(self.clock)
        return viewer


class TableTests(DoorCase):
    """The table of cases, over the header and over a first frame; nothing comes before `ready`."""

    def both(self, token: str, status: int, code: str, close: int, path: str = "/console", **more: Any) -> None:
        found = self.refused(path, token, **more)
        self.assertEqual((found.status, found.code), (status, code))
        viewer = self.first_frame(token, path, **more)
        self.assertEqual((viewer.messages(), viewer.close_code), ([], close))

    def test_no_auth_in_time(self) -> None:
        """A04: who says nothing for 10 s is closed with 4401."""
        viewer = self.join(token=None)
        settle(self.clock, 9.9)
        self.assertIsNone(viewer.close_code)
        settle(self.clock, 0.2)
        self.assertEqual((viewer.messages(), viewer.close_code), ([], 4401))

    def test_another_frame_first(self) -> None:
        """Whatever is no auth ends an unauthenticated connection with 4401."""
        for frame in ('{"type":"ping"}', "no json", '{"type":"auth"}', '{"type":"auth","token":7}', "[]"):
            viewer = self.join(token=None)
            viewer.send_text(frame)
            settle(self.clock)
            self.assertEqual((viewer.messages(), viewer.close_code), ([], 4401), frame)
        viewer = self.join(token=None)
        viewer.send_bytes(b"auth")
        settle(self.clock)
        self.assertEqual(viewer.close_code, 4401)

    def test_a_bad_token(self) -> None:
        """401 `unauthorized`, 4401."""
        self.both("bad", 401, "unauthorized", 4401)

    def test_an_expired_token(self) -> None:
        """401 `token_expired`, 4410."""
        self.both("expired", 401, "token_expired", 4410)

    def test_a_revoked_token(self) -> None:
        """403, 4403."""
        self.both("revoked", 403, "forbidden", 4403)

    def test_without_console_read(self) -> None:
        """W16: a token for files opens no console: 403, 4403."""
        self.rooms.tokens.add("files", permissions=frozenset({"files.read"}))
        self.both("files", 403, "forbidden", 4403)

    def test_another_server_in_the_path(self) -> None:
        """C03: a token for srv_1 does not open srv_2, whether or not that one is here."""
        self.both("good", 403, "forbidden", 4403, path="/console/srv_2")

    def test_a_strange_origin(self) -> None:
        """A04: a page of another site opens no console: 403, 4403; `null` is another site."""
        for origin in ("https://evil.example", "null", "http://localhost:81", "http://user@localhost"):
            self.both("good", 403, "forbidden", 4403, headers={"Origin": origin})

    def test_no_such_server(self) -> None:
        """404 `server_not_found`, 4404; only for a token that is good."""
        self.rooms.tokens.add("gone", server="srv_gone")
        self.both("gone", 404, "server_not_found", 4404)

    def test_too_many_of_a_user(self) -> None:
        """P03, W13: 429 `too_many_connections`, 1013."""
        for _ in range(ConsoleConfig().viewers_per_user):
            self.join()
        self.both("good", 429, "too_many_connections", 1013)

    def test_stopping(self) -> None:
        """Sessions end with 1001; a new one gets 503 `unavailable`."""
        viewer, waiting = self.join(), self.join(token=None)
        self.start(self.rooms.endpoint.stop())
        self.assertEqual((viewer.close_code, waiting.close_code), (1001, 1001))
        for token in ("good", None):
            found = self.refused(token=token)
            self.assertEqual((found.status, found.code), (503, "unavailable"))

    def test_expired_during_the_session(self) -> None:
        """K23: the session ends with 4410 when its token does, and nothing is shown after that."""
        self.rooms.tokens.add("short", life=3)
        viewer = self.join(token="short")
        self.assertEqual([m["type"] for m in viewer.messages()], ["ready", "output", "token.expiring"])
        settle(self.clock, 3)
        self.engine.print("game_1", "secret\n")
        settle(self.clock)
        self.assertEqual((viewer.messages(), viewer.close_code), ([], 4410))

    def test_deleted_during_the_session(self) -> None:
        """4404."""
        viewer = self.join()
        self.now(self.rooms.consoles.discard("srv_1"))
        settle(self.clock)
        self.assertEqual(viewer.close_code, 4404)

    def test_rate_limited_too_often(self) -> None:
        """W13: 10 times `rate_limited` in 10 s end with 1008."""
        viewer = self.join()
        viewer.messages()
        for _ in range(ConsoleConfig().input_messages_per_second + 10):
            viewer.send_json(type="ping")
        settle(self.clock)
        codes = [message.get("code") for message in viewer.messages()]
        self.assertEqual((codes.count("rate_limited"), viewer.close_code), (10, 1008))

    def test_the_fifth_bad_frame(self) -> None:
        """Four are told, the fifth closes with 1008."""
        viewer = self.join()
        viewer.messages()
        for frame in ("x", "[]", '{"type":"dance"}', '{"type":"input","data":5}'):
            viewer.send_text(frame)
        settle(self.clock)
        self.assertIsNone(viewer.close_code)
        viewer.send_text('{"type":"resize","cols":0,"rows":true}')
        settle(self.clock)
        self.assertEqual([m["code"] for m in viewer.messages()], ["invalid_frame"] * 5)
        self.assertEqual(viewer.close_code, 1008)

    def test_too_big(self) -> None:
        """A01: over 64 KiB, in one frame or in several: 1009; just 64 KiB is read."""
        viewer = self.join()
        viewer.send_frame(TEXT, b" " * 65536)
        settle(self.clock)
        self.assertIsNone(viewer.close_code)
        viewer.send_frame(TEXT, b" " * 65537)
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1009)
        viewer = self.join()
        viewer.send_frame(TEXT, b" " * 40000, fin=False)
        viewer.send_frame(0, b" " * 40000)
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1009)

    def test_rfc_6455_broken(self) -> None:
        """Unmasked, reserved bits, unknown opcodes, split control frames: 1002; text that is no UTF-8: 1007."""
        for broken in (
            {"opcode": TEXT, "payload": b"x", "mask": False}, {"opcode": TEXT, "payload": b"x", "rsv": 4},
            {"opcode": 3, "payload": b""}, {"opcode": 9, "payload": b"", "fin": False}, {"opcode": 0, "payload": b""},
            {"opcode": CLOSE, "payload": b"\x03"}, {"opcode": CLOSE, "payload": b"\x00\x01"},
        ):  # fmt: skip
            viewer = self.join()
            viewer.send_frame(**broken)  # type: ignore[arg-type]
            settle(self.clock)
            self.assertEqual(viewer.close_code, 1002, broken)
        viewer = self.join()
        viewer.send_frame(TEXT, b"\xff\xfe")
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1007)

    def test_no_upgrade_at_all(self) -> None:
        """A03: what is no upgrade of RFC 6455 gets 400 and JSON."""
        for wrong in (
            {"Upgrade": "h2c"}, {"Connection": "close"}, {"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Key": "x"},
            {"Sec-WebSocket-Key": "A" * 24}, {"Sec-WebSocket-Protocol": "chat, superchat"},
        ):  # fmt: skip
            found = self.refused(headers=wrong)
            self.assertEqual((found.status, found.code), (400, "invalid_request"), wrong)

    def test_what_stands_in_the_query(self) -> None:
        """P07: a token in the URL is refused with 400; so is what is no offset, or one above the end."""
        for query in (
            "token=x", "since=-1", "since=x", "since=1.5", "since=", "since=8", "since=1&since=2", "since=" + "9" * 30,
            "scrollback=-1", "scrollback=1048577", "scrollback=a",
        ):  # fmt: skip
            found = self.refused("/console?" + query)
            self.assertEqual((found.status, found.code), (400, "invalid_request"), query)

    def test_since_above_the_end_over_a_first_frame(self) -> None:
        """There is no HTTP answer any more: 1008 with `invalid_request`."""
        viewer = self.first_frame("good", "/console?since=8")
        self.assertEqual((viewer.messages(), viewer.close_code), ([], 1008))
        self.assertTrue(viewer.close_reason.startswith("invalid_request"))

    def test_another_scheme_in_the_header(self) -> None:
        """Authorization must be Bearer with a token."""
        for value in ("Basic Z29vZA==", "Bearer", "Bearer  ", "good"):
            found = self.refused(token=None, headers={"Authorization": value})
            self.assertEqual((found.status, found.code), (401, "unauthorized"))

    def test_a_verifier_with_a_bug(self) -> None:
        """500 and 4401, and the bug is logged: nobody is let in."""
        self.rooms.tokens.known["boom"] = RuntimeError("bug")
        self.both("boom", 500, "internal", 4401)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_a_console_with_a_bug(self) -> None:
        """1001, as where the daemon stops: it may come again. The bug is logged, the seat is free, nothing waits."""

        async def view(*_: object) -> Viewer:
            raise RuntimeError("bug")

        self.patch(self.console, "view", view)
        for viewer in (self.join(), self.first_frame("good")):
            settle(self.clock)
            self.assertEqual((viewer.messages(), viewer.close_code), ([], 1001))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual((len(self.rooms.seats), len(self.rooms.endpoint)), (0, 0))

    def test_a_verifier_that_does_not_answer(self) -> None:
        """K02: after 10 s it is a refusal."""
        self.rooms.tokens.slow = Deferred()
        viewer, _ = self.dial()
        settle(self.clock, 10)
        self.assertEqual(self.failureResultOf(viewer.opened, HandshakeRefused).value.status, 401)

    def test_who_left_while_judged(self) -> None:
        """K29: nothing of it stays, over header and first frame."""
        slow = self.rooms.tokens.slow = Deferred()
        viewer, end = self.dial()
        other = self.join(token=None)
        other.send_json(type="auth", token="good")
        settle(self.clock)
        other.drop()
        end.abortConnection()
        settle(self.clock)
        self.failureResultOf(viewer.opened)
        slow.callback(None)
        settle(self.clock)
        self.assertEqual(len(self.rooms.endpoint), 0)

    def test_revoked_or_stopped_while_judged(self) -> None:
        """A stop that comes during the judgement: 503."""
        slow = self.rooms.tokens.slow = Deferred()
        viewer, _ = self.dial()
        self.start(self.rooms.endpoint.stop())
        slow.callback(None)
        settle(self.clock)
        self.assertEqual(self.failureResultOf(viewer.opened, HandshakeRefused).value.status, 503)

    def test_too_many_frames_before_ready(self) -> None:
        """What waits for a judgement is bounded: 1008."""
        self.rooms.tokens.slow = Deferred()
        viewer = self.join(token=None)
        viewer.send_json(type="auth", token="good")
        for _ in range(300):
            viewer.send_text("x")
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1008)

    def test_paths_that_name_no_server(self) -> None:
        """404 in JSON."""
        for path in ("/console/a/b", "/console/%2e%2e", "/console/a%20b"):
            self.assertEqual(self.refused(path).status, 404)


class SessionTests(DoorCase):
    """What a viewer sees and does."""

    def test_ready_comes_first(self) -> None:
        """Over both ways of authentication `ready` is first, and tells all that it must."""
        for viewer in (self.join(), self.first_frame("good"), self.join("/console/srv_1"), self.join("/console/")):
            ready, output = viewer.messages()
            expires = WALL + 300
            self.assertEqual(ready, {"type": "ready", "serverId": "srv_1", "status": "running", "canWrite": True,
                                     "from": 0, "end": 7, "expiresAt": expires, "runs": STARTED,
                                     "name": "the server srv_1",
                                     "permissions": ["console.read", "console.write", "stats.read"]})  # fmt: skip
            self.assertEqual((output["data"], output["offset"], output["end"]), ("hello\r\n", 0, 7))

    def test_subprotocols(self) -> None:
        """The known one is spoken; with none offered, JSON without a subprotocol."""
        self.assertEqual(self.join(subprotocols=["x", RAW]).headers["sec-websocket-protocol"], RAW)
        self.assertEqual(self.join(subprotocols=[JSON]).headers["sec-websocket-protocol"], JSON)
        self.assertNotIn("sec-websocket-protocol", self.join().headers)

    def test_compression_is_declined(self) -> None:
        """A01, A02: a viewer that offers permessage-deflate is answered without it; RSV1 is then an error."""
        for offer in ("permessage-deflate; client_max_window_bits=8", "constructor", "permessage-bzip2"):
            viewer = self.join(headers={"Sec-WebSocket-Extensions": offer})
            self.assertNotIn("sec-websocket-extensions", viewer.headers)

    def test_raw(self) -> None:
        """Terminal bytes go as binary frames both ways; in JSON a binary frame is a bad one."""
        viewer = self.join(subprotocols=[RAW])
        ready, output = viewer.messages()
        self.assertEqual((ready["from"], output), (0, b"hello\r\n"))
        viewer.send_frame(BINARY, b"list\r")
        settle(self.clock)
        self.assertEqual(b"".join(viewer.messages()), b"list\r\nnobody\r\n")
        viewer = self.join(subprotocols=[JSON])
        viewer.messages()
        viewer.send_frame(BINARY, b"list\r")
        settle(self.clock)
        self.assertEqual([m["code"] for m in viewer.messages()], ["invalid_frame"])

    def test_input(self) -> None:
        """What is typed goes to the PTY as it is, and every viewer sees the echo."""
        writer, reader = self.join(), self.join(subprotocols=[RAW])
        writer.messages(), reader.messages()
        writer.send_json(type="input", data="list\r")
        settle(self.clock)
        self.assertEqual("".join(m["data"] for m in writer.messages()), "list\r\nnobody\r\n")
        self.assertEqual(b"".join(reader.messages()), b"list\r\nnobody\r\n")

    def test_read_only(self) -> None:
        """Without console.write: input and resize are `forbidden`, and not counted as bad frames."""
        self.rooms.tokens.add("reader", permissions=frozenset({"console.read"}))
        viewer = self.join(token="reader")
        self.assertIs(viewer.messages()[0]["canWrite"], False)
        for _ in range(6):
            viewer.send_json(type="input", data="list\r")
            viewer.send_json(type="resize", cols=5, rows=5)
        settle(self.clock)
        self.assertEqual({m["code"] for m in viewer.messages()}, {"forbidden"})

    def test_read_only_keys(self) -> None:
        """So are raw keystrokes; none reaches the game."""
        self.rooms.tokens.add("reader", permissions=frozenset({"console.read"}))
        viewer, watching = self.join(token="reader", subprotocols=[RAW]), self.join(subprotocols=[RAW])
        viewer.messages()
        watching.messages()
        viewer.send_bytes(b"stop\r")
        settle(self.clock, 1)
        self.assertEqual([m["code"] for m in viewer.messages()], ["forbidden"])
        self.assertEqual(watching.messages(), [])

    def test_ping(self) -> None:
        """Answered by `pong` with the time."""
        viewer = self.join()
        viewer.messages()
        viewer.send_json(type="ping")
        settle(self.clock)
        self.assertEqual(viewer.messages(), [{"type": "pong", "timestamp": self.wall()}])

    def test_typing_at_a_stopped_server(self) -> None:
        """`invalid_state`; the console stays open, shows the last run and goes on."""
        self.engine.crash("game_1")
        settle(self.clock)
        viewer = self.join()
        viewer.messages()
        viewer.send_json(type="input", data="list\r")
        settle(self.clock)
        self.assertEqual([m["code"] for m in viewer.messages()], ["invalid_state"])
        self.now(self.console.attach(self.container))
        self.now(self.engine.start(self.container))
        settle(self.clock)
        self.assertEqual([m["offset"] for m in viewer.messages()], [7])

    def test_status_and_stats(self) -> None:
        """Changes of the server go to all, its numbers to those with stats.read."""
        from stellarstack.core.records import ServerStatus

        self.rooms.tokens.add("reader", permissions=frozenset({"console.read"}))
        viewer, reader = self.join(), self.join(token="reader")
        viewer.messages(), reader.messages()
        self.console.set_status(ServerStatus.STOPPING)
        self.console.send_stats({"cpu": 1.5})
        settle(self.clock)
        status = {"type": "status", "status": "stopping"}
        self.assertEqual(reader.messages(), [status])
        self.assertEqual(viewer.messages(), [status, {"type": "stats", "metrics": {"cpu": 1.5}}])

    def test_history(self) -> None:
        """Pages go backwards; in raw `data` is base64."""
        viewer, raw = self.join(), self.join(subprotocols=[RAW])
        viewer.messages(), raw.messages()
        for one in (viewer, raw):
            one.send_json(type="history", limit=4)
            settle(self.clock)
            one.send_json(type="history", limit=262144, before=3)
            settle(self.clock)
        self.assertEqual(viewer.messages(), [
            {"type": "history", "from": 3, "end": 7, "data": "lo\r\n", "first": 0, "runs": []},
            {"type": "history", "from": 0, "end": 3, "data": "hel", "first": 0, "runs": STARTED},
        ])  # fmt: skip
        self.assertEqual([m["data"] for m in raw.messages()], ["bG8NCg==", "aGVs"])

    def test_renewal(self) -> None:
        """A good token prolongs the session and changes its permissions; a bad one changes nothing."""
        self.rooms.tokens.add("short", life=50)
        self.rooms.tokens.add("other", user_id="usr_2")
        viewer = self.join(token="short")
        viewer.messages()
        for token in ("bad", "other"):
            viewer.send_json(type="auth", token=token)
        settle(self.clock)
        self.assertEqual([m["code"] for m in viewer.messages()], ["unauthorized"] * 2)
        self.rooms.tokens.add("longer", permissions=frozenset({"console.read"}))
        viewer.send_json(type="auth", token="longer")
        settle(self.clock)
        (ok,) = viewer.messages()
        self.assertEqual((ok["type"], ok["expiresAt"]), ("auth.ok", WALL + 300))
        settle(self.clock, 60)
        viewer.send_json(type="input", data="x")
        settle(self.clock)
        self.assertEqual([m["code"] for m in viewer.messages()], ["forbidden"])

    def test_the_end_is_told_a_minute_before(self) -> None:
        """K23: `token.expiring` once, 60 s before."""
        viewer = self.join()
        viewer.messages()
        settle(self.clock, 239)
        self.assertEqual(viewer.messages(), [])
        settle(self.clock, 1)
        settle(self.clock, 1)
        self.assertEqual(viewer.messages(), [{"type": "token.expiring", "expiresIn": 60.0}])

    def test_revoke(self) -> None:
        """W11, W12, K24: sessions that match are closed with 4403 at once, others live."""
        self.rooms.tokens.add("second", user_id="usr_2")
        mine, other = self.join(), self.join(token="second")
        self.assertEqual(self.rooms.seats.revoke(), 0)
        self.assertEqual(self.rooms.seats.revoke(user_id="usr_1", server_id="srv_1"), 1)
        settle(self.clock)
        self.assertEqual((mine.close_code, other.close_code), (4403, None))
        self.assertEqual(self.rooms.seats.revoke(jti="jti-second"), 1)

    def test_nothing_follows_the_close_frame(self) -> None:
        """Whoever ends a session, what the game prints in that moment or later is not sent on it any more."""
        ends: list[Callable[[WsClient], object]] = [
            lambda _: self.rooms.seats.revoke(user_id="usr_1"), lambda viewer: viewer.send_frame(CLOSE, b"\x03\xe8"),
            lambda viewer: viewer.send_frame(0x0F, b"no such opcode"),
        ]  # fmt: skip
        for number, end in enumerate(ends):
            viewer = self.join(subprotocols=[RAW], answer_close=False)
            self.console.type(b"list\r")
            settle(self.clock)
            self.assertTrue(any(b"nobody" in message for message in viewer.messages() if isinstance(message, bytes)))
            end(viewer)
            if number:  # it has to arrive first
                settle(self.clock)
                viewer.messages()
            for _ in range(3):
                self.console.type(b"list\r")
                settle(self.clock, 1)
            self.assertIsNotNone(viewer.close_code)
            self.assertEqual(viewer.messages(), [])

    def test_audit(self) -> None:
        """Who came, what lines were entered, who left: with address and user agent."""
        viewer = self.join(headers={"User-Agent": "tests/1"})
        viewer.send_json(type="input", data="lisx\x7ft\r")
        settle(self.clock, 2)
        viewer.drop()
        settle(self.clock)
        rows = self.rooms.bus.named("console.audit")
        self.assertEqual([row["action"] for row in rows], ["session_start", "command_sent", "session_end"])
        self.assertEqual(rows[1]["data"], {"command": "list"})
        self.assertEqual(rows[2]["data"], {"duration": 2})
        first = {key: rows[0][key] for key in ("nodeId", "serverId", "userId", "ip", "userAgent")}
        self.assertEqual(first, {"nodeId": "node_t", "serverId": "srv_1", "userId": "usr_1", "ip": "192.0.2.7",
                                 "userAgent": "tests/1"})  # fmt: skip

    def test_resize(self) -> None:
        """The PTY has the size asked for, also at later starts."""
        viewer = self.join()
        viewer.send_json(type="resize", cols=120, rows=40)
        settle(self.clock)
        process = self.engine.get("game_1").process
        assert process is not None
        self.assertEqual((process.size.cols, process.size.rows), (120, 40))

    def test_pings_where_it_is_quiet(self) -> None:
        """K29: a viewer that says nothing is pinged, so that a dead connection is found."""
        viewer = self.join()
        settle(self.clock, 29)
        self.assertEqual(viewer.pings, 0)
        for _ in range(20):
            settle(self.clock, 5)
        self.assertGreaterEqual(viewer.pings, 2)

    def test_frames_sent_before_ready_wait(self) -> None:
        """Typed right behind the auth frame: done after `ready`."""
        viewer = self.join(token=None)
        viewer.send_json(type="auth", token="good")
        viewer.send_json(type="ping")
        settle(self.clock)
        self.assertEqual([m["type"] for m in viewer.messages()], ["ready", "output", "pong"])

    def test_live_options(self) -> None:
        """F2: the limits stand in the protocol that serves, not only in a factory."""
        _, end = self.dial()
        wire = end.protocol
        self.assertEqual((wire.maxFramePayloadSize, wire.maxMessagePayloadSize), (65536, 65536))
        self.assertEqual(
            (wire.failByDrop, wire.utf8validateIncoming, wire.requireMaskedClientFrames), (False, True, True)
        )
        self.assertEqual((wire.versions, wire.webStatus, wire.trustXForwardedFor), ([13], False, 0))
        self.assertIsNone(wire.perMessageCompressionAccept([object()]))
        self.assertGreater(wire.maxConnections, 0)
        self.assertFalse(wire.factory.allowNullOrigin)

    def test_the_token_goes_no_further(self) -> None:
        """P07: Autobahn, which logs what it reads, is not shown the token."""
        _, end = self.dial()
        self.assertNotIn(b"good", end.protocol.http_request_data)

    def test_connections_are_forgotten(self) -> None:
        """K29: a thousand come and go, and nothing of them stays."""
        for _ in range(1000):
            viewer = self.join()
            viewer.drop()
            settle(self.clock)
        self.assertEqual(len(self.rooms.endpoint), 0)
        self.assertLess(len(self.clock.getDelayedCalls()), 10)


class LimitTests(DoorCase):
    """[console]'s limits and [server] allowed_origins."""

    config = ConsoleConfig(connections=2, waiting=16, viewers_per_server=1, viewer_buffer=65536, stall_deadline=60)
    allowed_origins = ("https://panel.example",)

    def test_of_the_node(self) -> None:
        """W13: over the limit 429 with a header, 1013 without; places are given back."""
        for server in ("srv_2", "srv_3"):
            self.now(self.rooms.open(server))
            self.rooms.tokens.add(server, server)
        first = self.join()
        self.join(token="srv_2")
        self.assertEqual(self.refused(token="srv_3").status, 429)
        self.assertEqual(self.first_frame("srv_3").close_code, 1013)
        first.drop()
        settle(self.clock, 1)
        self.join(token="srv_3")

    def test_who_shows_no_token_takes_no_place(self) -> None:
        """W13, P03: 2 000 upgrades without a token keep nobody out; the oldest are closed with 1013, and forgotten."""
        good = self.join(token=None)
        crowd = [self.join(token=None, peer="192.0.2.66") for _ in range(2000)]
        closed = [viewer.close_code for viewer in crowd]
        self.assertEqual(closed, [1013] * 1998 + [None] * 2)
        good.send_json(type="auth", token="good")
        settle(self.clock)
        self.assertEqual([m["type"] for m in good.messages()], ["ready", "output"])
        good.drop()
        settle(self.clock)
        self.assertEqual(self.join().messages()[0]["type"], "ready")
        self.assertEqual(len(self.rooms.endpoint), 3)

    def test_who_is_turned_away_and_stays(self) -> None:
        """K29: those that do not answer their close frame are bounded, too."""
        for _ in range(400):
            self.dial(token=None, answer_close=False)
        settle(self.clock, 1)
        self.assertEqual(len(self.rooms.endpoint), 256 + 2)
        settle(self.clock, 10)
        settle(self.clock, 10)
        self.assertEqual(len(self.rooms.endpoint), 0)

    def test_of_a_server(self) -> None:
        """P03: the second viewer is refused, and let in when the first is gone."""
        first = self.join()
        self.assertEqual(self.refused().code, "too_many_connections")
        first.drop()
        settle(self.clock)
        self.join()

    def test_origins(self) -> None:
        """The daemon's own page and a listed one may; scheme, host and port count."""
        for origin in ("http://localhost", "http://localhost:80", "https://panel.example", "https://panel.example:443"):
            viewer = self.join(headers={"Origin": origin})
            viewer.drop()
            settle(self.clock)
        self.assertEqual(self.refused(headers={"Origin": "http://panel.example"}).status, 403)

    def test_one_that_takes_nothing(self) -> None:
        """K18: skipped with one gap while it is slow, closed with 1008 after 60 s without progress."""
        viewer, end = self.dial()
        viewer.messages()
        end.taking = False
        for _ in range(40):
            self.engine.print("game_1", "x" * 10_000)
        settle(self.clock, 50)
        self.assertLess(len(end.buffer), 2 * 65536)
        end.take()
        settle(self.clock)
        kinds = [message["type"] for message in viewer.messages()]
        self.assertEqual((kinds.count("gap"), viewer.close_code), (1, None))
        end.taking = False
        for _ in range(40):
            self.engine.print("game_1", "x" * 10_000)
        for _ in range(17):
            settle(self.clock, 4)
        end.take()
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1008)

    def test_one_that_does_not_answer_the_close_frame(self) -> None:
        """K29, W11: its connection is dropped 10 s later, whoever closed; 1 s later where it may see nothing more."""
        for wrong in (True, False):
            viewer, _ = self.dial(answer_close=False)
            if wrong:
                viewer.send_frame(3, b"")
            else:
                self.rooms.seats.revoke(user_id="usr_1")
            settle(self.clock)
            settle(self.clock, 9 if wrong else 0.9)
            self.assertEqual((viewer.close_code, len(self.rooms.endpoint)), (1002 if wrong else 4403, 1))
            settle(self.clock, 2)
            self.assertEqual(len(self.rooms.endpoint), 0)

    def test_one_that_asks_and_does_not_read(self) -> None:
        """K18: answers to it are bounded too; history is `busy` meanwhile."""
        viewer, end = self.dial()
        end.taking = False
        for _ in range(10):
            self.engine.print("game_1", "x" * 10_000)
        viewer.send_json(type="history", limit=262144)
        settle(self.clock)
        for _ in range(500):
            settle(self.clock, 0.1)
            viewer.send_json(type="auth", token="é" * 9000)
        settle(self.clock)
        self.assertIn(b'"busy"', end.buffer)
        self.assertLess(len(end.buffer), 1 << 21)
