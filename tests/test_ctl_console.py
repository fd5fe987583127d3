"""`stellarctl console`: what it types, shows, and does when the line breaks (PROTOCOL 8)."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from wsproto import events as ws

from stellarstack.ctl import console as console_module
from stellarstack.ctl.console import Console
from stellarstack.ctl.control import Refused
from stellarstack.ctl.websocket import Address, ConnectionLost, ConsoleRefused, ConsoleSocket
from tests.ctl_fakes import ConsolePeer

ADDRESS = Address("127.0.0.1", 8080)
Script = Callable[[ConsolePeer], None]


class FakeScreen:
    """A terminal whose operator types when the screen shows what was awaited."""

    def __init__(self, *typing: tuple[bytes, bytes], interactive: bool = True) -> None:
        self.interactive = interactive
        self.keys_ended = False
        self.shown = b""
        self.said: list[str] = []
        self._typing = list(typing)
        self.dimensions: tuple[int, int] | None = (100, 40)
        self.resized = False
        self.keys_left_alone = 0

    def size(self) -> tuple[int, int] | None:
        return self.dimensions

    def wait(self, others: list[Any], seconds: float, *, keys: bool) -> tuple[list[Any], bytes, bool]:
        ready, _, _ = select.select(others, [], [], min(max(seconds, 0), 0.01))
        typed = b""
        self.keys_left_alone += not keys
        if keys and self._typing and self._typing[0][0] in self.shown + "\n".join(self.said).encode():
            typed = self._typing.pop(0)[1]
        resized, self.resized = self.resized, False
        return ready, typed, resized

    def show(self, output: bytes) -> None:
        self.shown += output

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(f"! {text}")


class Dialled:
    """Hands out one scripted connection after the other."""

    def __init__(self, *scripts: Script | Exception) -> None:
        self._scripts = list(scripts)
        self.peers: list[ConsolePeer] = []
        self.paths: list[str] = []
        self.tokens: list[str] = []

    def __call__(self, address: Address, path: str, token: str) -> ConsoleSocket:
        self.paths.append(path)
        self.tokens.append(token)
        script = self._scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        peer = ConsolePeer(script)
        self.peers.append(peer)
        session = ConsoleSocket(peer.near)
        session._shake_hands("127.0.0.1:8080", path, token)
        return session

    def finish(self) -> None:
        for peer in self.peers:
            peer.finish()


class ConsoleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(console_module, "FIRST_DELAY", 0.01)
        self.minted = 0

    def mint(self) -> str:
        self.minted += 1
        return f"strk_console_{self.minted}"

    def play(self, screen: FakeScreen, *scripts: Script | Exception, **more: Any) -> Dialled:
        dialled = Dialled(*scripts)
        settings = {"server_id": "s", "address": lambda: ADDRESS, "mint": self.mint, "screen": screen, "dial": dialled}
        Console(**{**settings, **more}).run()
        dialled.finish()
        return dialled


class TestConsole(ConsoleCase):
    """One session."""

    def test_shows_types_and_leaves(self) -> None:
        """Output is shown byte for byte, keys go out as typed, Ctrl-] leaves with a goodbye and is not sent."""

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.until_received({"type": "resize", "cols": 100, "rows": 40})
            peer.output(b"\x1b[1mprompt>\xff")
            peer.until_received(b"say hi\r")
            peer.output(b"hi")
            peer.until_received(b"bye")
            peer.until_closed()

        screen = FakeScreen((b"prompt>", b"say hi\r"), (b"hi", b"bye\x1dnot this"))
        dialled = self.play(screen, script)
        self.assertEqual(screen.shown, b"\x1b[1mprompt>\xffhi")
        self.assertEqual(screen.said, ["s is running; Ctrl-] leaves"])
        self.assertEqual(dialled.paths, ["/console/s"])
        request = dialled.peers[0].request
        assert request is not None
        self.assertIn((b"authorization", b"Bearer strk_console_1"), request.extra_headers)
        self.assertEqual(request.subprotocols, ["stellarstack.console.v1.raw"])

    def test_window_size(self) -> None:
        """A new size of the window is told; a screen that is no terminal has none."""

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.until_received({"type": "resize", "cols": 100, "rows": 40})
            screen.dimensions, screen.resized = (50, 10), True
            peer.output(b"a")
            peer.until_received({"type": "resize", "cols": 50, "rows": 10})
            peer.output(b"end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        self.play(screen, script)

    def test_read_only(self) -> None:
        """A console that only watches sends neither keys nor sizes, and Ctrl-C leaves it."""

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.output(b"one")
            peer.output(b"two")
            peer.until_closed()
            self.assertEqual([kind for kind in peer.received if not isinstance(kind, ws.CloseConnection)], [])

        screen = FakeScreen((b"one", b"rm -rf"), (b"two", b"\x03"))
        self.play(screen, script, read_only=True)
        self.assertEqual(screen.said, ["s is running; read-only, Ctrl-C leaves"])

    def test_token_says_read_only(self) -> None:
        """Where the daemon says that nothing may be typed, the operator is told and nothing is sent."""

        def script(peer: ConsolePeer) -> None:
            peer.ready(can_write=False)
            peer.until_closed()
            self.assertEqual(len(peer.received), 1)

        screen = FakeScreen((b"read-only", b"x\x1d"))
        self.play(screen, script)
        self.assertEqual(screen.said, ["s is running; read-only, Ctrl-C leaves"])

    def test_told(self) -> None:
        """Status, gaps and errors are told; a token that ends is renewed on the same connection."""

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.frame(type="status", status="stopping")
            peer.frame(type="status", status="stopping")
            peer.frame(type="gap", to=900, **{"from": 400})
            peer.frame(type="gap", to=None, **{"from": 900})
            peer.frame(type="error", code="rate_limited", message="slower, please")
            peer.frame(type="notice", code="flood", message="it floods")
            peer.frame(type="notice", code="of a later version")
            peer.frame(type="stats", metrics={})
            peer.say(ws.TextMessage("[]"))
            peer.say(ws.Ping(b"x"))
            peer.frame(type="token.expiring", expiresIn=60)
            peer.until_received({"type": "auth", "token": "strk_console_2"})
            peer.output(b"end")
            peer.until_closed()
            self.assertTrue(any(isinstance(event, ws.Pong) for event in peer.received))

        screen = FakeScreen((b"end", b"\x1d"))
        self.play(screen, script)
        told = ["s is running; Ctrl-] leaves", "s is stopping", "! 500 bytes not shown here"]
        self.assertEqual(screen.said, [*told, "! some output not shown here", "slower, please", "it floods"])

    def test_piped_input_ends(self) -> None:
        """What is piped in is typed, and its end leaves after a moment."""
        self.patch(console_module, "LINGER", 0.05)

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.until_received(b"say hi\r")
            screen.keys_ended = True
            peer.output(b"hi")
            peer.until_closed()

        screen = FakeScreen((b"running", b"say hi\r"), interactive=False)
        self.play(screen, script)

    def test_greets_below_the_past(self) -> None:
        """Which server it is and how to leave is said after the scrollback, where it can be seen."""

        def script(peer: ConsolePeer) -> None:
            peer.ready(start=10, end=16)
            peer.output(b"old")
            peer.frame(type="status", status="stopping")
            peer.output(b"er.")
            peer.until_received({"type": "resize", "cols": 100, "rows": 40})
            peer.output(b"end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        seen: list[bytes] = []
        say = screen.say

        def said(text: str) -> None:
            seen.append(screen.shown)
            say(text)

        self.patch(screen, "say", said)
        self.play(screen, script)
        self.assertEqual((seen[0], screen.said), (b"older.", ["s is stopping; Ctrl-] leaves"]))

    def test_questions_of_the_past(self) -> None:
        """What a program asked the terminal before the operator came, or while the line was broken, is not asked again.

        What it asks now is; questions are found however they are cut.
        """

        def first(peer: ConsolePeer) -> None:
            peer.ready(start=10, end=24)
            peer.output(b"old\x1b[")
            peer.output(b"6n\x1b[1m\x1b[c")
            peer.output(b"new\x1b[6n")
            peer.until_received({"type": "resize", "cols": 100, "rows": 40})

        def second(peer: ConsolePeer) -> None:
            peer.ready(start=31, end=36)
            peer.output(b"a\x1b[6nend\x1b[c")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        dialled = self.play(screen, first, second)
        self.assertEqual(dialled.paths[-1], "/console/s?since=31")
        self.assertEqual(screen.shown, b"old\x18\x1b[1m\x18new\x1b[6na\x18end\x1b[c")

    def test_questions_before_a_gap(self) -> None:
        """What was begun before a gap is not joined to what follows it."""

        def script(peer: ConsolePeer) -> None:
            peer.ready(start=0, end=100)
            peer.output(b"a\x1b[")
            peer.frame(type="gap", to=50, **{"from": 3})
            peer.output(b"6n end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        self.play(screen, script)
        self.assertEqual(screen.shown, b"a\x1b[6n end")

    def test_once(self) -> None:
        """What only prints the past leaves at its end and shows no byte more; a gap over the end is an end, too."""

        def past(peer: ConsolePeer) -> None:
            peer.ready(start=10, end=14)
            peer.output(b"past and present")
            peer.until_closed()

        def gap(peer: ConsolePeer) -> None:
            peer.ready(start=10, end=14)
            peer.frame(type="gap", to=20, **{"from": 10})
            peer.until_closed()

        for script, shown in ((past, b"past"), (gap, b""), (lambda peer: peer.ready(start=3, end=3), b"")):
            screen = FakeScreen()
            self.play(screen, script, once=True, greet=False)
            self.assertEqual(screen.shown, shown)

    def test_long_paste(self) -> None:
        """A long paste goes out no faster than the daemon takes it, in order and whole."""
        self.patch(console_module, "TYPED_A_SECOND", 100_000)

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.until(lambda: sum(len(part) for part in peer.received if isinstance(part, bytes)) >= 12_000)
            typed = b"".join(part for part in peer.received if isinstance(part, bytes))
            self.assertEqual(typed, b"a" * 4000 + b"b" * 4000 + b"c" * 4000)
            peer.output(b"end")
            peer.until_closed()

        pieces = [(b"", letter * 4000) for letter in (b"a", b"b", b"c")]
        screen = FakeScreen(*pieces, (b"end", b"\x1d"))
        self.play(screen, script)
        self.assertGreaterEqual(screen.keys_left_alone, 3)

    def test_pings(self) -> None:
        """A quiet console is pinged."""
        self.patch(console_module, "PING_EVERY", 0.02)

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.until_received({"type": "ping"})
            peer.output(b"end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        self.play(screen, script)


class TestRenewal(ConsoleCase):
    """A token that ends."""

    def test_before_its_end(self) -> None:
        """Without the daemon's word, too, a new token is sent in time; what it answers sets the next time."""
        self.patch(console_module, "RENEW_SOONEST", 0.01)

        def script(peer: ConsolePeer) -> None:
            peer.ready(expires_at=time.time() + 0.1)
            peer.until_received({"type": "auth", "token": "strk_console_2"})
            peer.frame(type="auth.ok", expiresAt=time.time() + 0.1)
            peer.until_received({"type": "auth", "token": "strk_console_3"})
            peer.frame(type="auth.ok", expiresAt=time.time() + 3600)
            peer.output(b"end")
            peer.until_closed()

        self.play(FakeScreen((b"end", b"\x1d")), script)
        self.assertEqual(self.minted, 3)

    def test_none_to_be_had(self) -> None:
        """Where no token can be had at the moment the session goes on, and it is tried again."""
        self.patch(console_module, "RENEW_AGAIN", 0.01)
        answers: Iterator[str | Exception] = iter(["t", Refused("busy"), Refused("busy"), "renewed"])

        def mint() -> str:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.frame(type="token.expiring", expiresIn=60)
            peer.until_received({"type": "auth", "token": "renewed"})
            peer.frame(type="auth.ok", expiresAt=time.time() + 3600)
            peer.output(b"end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        self.play(screen, script, mint=mint)
        self.assertEqual(screen.said, ["s is running; Ctrl-] leaves"])


class TestReconnect(ConsoleCase):
    """The line breaks."""

    def test_resumes(self) -> None:
        """After a break it connects anew with a new token, from the byte after the last one shown."""

        def first(peer: ConsolePeer) -> None:
            peer.ready(start=1000)
            peer.output(b"0123456789")
            peer.until_received({"type": "resize", "cols": 100, "rows": 40})

        def second(peer: ConsolePeer) -> None:
            peer.ready(start=1010)
            peer.output(b"end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        dialled = self.play(screen, first, ConnectionLost("refused"), ConnectionLost("refused"), second)
        self.assertEqual(dialled.paths, ["/console/s", *["/console/s?since=1010"] * 3])
        self.assertEqual(dialled.tokens[-1], "strk_console_4")
        self.assertEqual(screen.shown, b"0123456789end")
        told = ["the daemon closed the connection; trying again; Ctrl-] leaves", "connected again"]
        self.assertEqual(screen.said, ["s is running; Ctrl-] leaves", *told])

    def test_a_new_server(self) -> None:
        """Offsets that begin anew mean another server: told, and its console is shown from where it is."""

        def first(peer: ConsolePeer) -> None:
            peer.ready(start=1000)

        def second(peer: ConsolePeer) -> None:
            peer.refuse(400, {"error": {"code": "invalid_request", "message": "since lies above the end"}})

        def third(peer: ConsolePeer) -> None:
            peer.ready(start=3)
            peer.output(b"end")
            peer.until_closed()

        screen = FakeScreen((b"end", b"\x1d"))
        dialled = self.play(screen, first, second, third)
        self.assertEqual(dialled.paths, ["/console/s", "/console/s?since=1000", "/console/s"])
        self.assertIn("! the console has begun anew; what it had before is gone", screen.said)
        error = self.assertRaises(ConsoleRefused, self.play, FakeScreen(), second, since=5)
        self.assertEqual(error.answer, "invalid_request")

    def test_stalled(self) -> None:
        """A connection that took nothing, of a laptop asleep, is closed with 1008 and resumed."""

        def first(peer: ConsolePeer) -> None:
            peer.ready(start=7)
            peer.close(1008)
            peer.until_closed()

        def second(peer: ConsolePeer) -> None:
            peer.ready(start=7)
            peer.output(b"end")
            peer.until_closed()

        self.assertEqual(self.play(FakeScreen((b"end", b"\x1d")), first, second).paths[1], "/console/s?since=7")

    def test_after_a_gap(self) -> None:
        """The offset goes on at the end of a gap."""

        def first(peer: ConsolePeer) -> None:
            peer.ready(start=10)
            peer.frame(type="gap", to=50, **{"from": 10})
            peer.output(b"ab")
            peer.close(4410)
            peer.until_closed()

        def second(peer: ConsolePeer) -> None:
            peer.ready(start=52)
            peer.output(b"end")
            peer.until_closed()

        dialled = self.play(FakeScreen((b"end", b"\x1d")), first, second, since=10)
        self.assertEqual(dialled.paths, ["/console/s?since=10", "/console/s?since=52"])

    def test_leaves_while_away(self) -> None:
        """Ctrl-] leaves while nobody answers, too."""

        def first(peer: ConsolePeer) -> None:
            peer.ready()

        self.play(FakeScreen((b"trying again", b"\x1d")), first, *[ConnectionLost("no")] * 50)

    def test_daemon_away_for_tokens(self) -> None:
        """A control socket that is gone for now is waited for; one that says no ends the console."""
        answers: Iterator[str | Exception] = iter(
            ["t", Refused("no daemon answers"), Refused("server_not_found: gone", "server_not_found")]
        )

        def mint() -> str:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        error = self.assertRaises(Refused, self.play, FakeScreen(), lambda peer: peer.ready(), mint=mint)
        self.assertEqual(error.answer, "server_not_found")

    def test_nobody_at_first(self) -> None:
        """A first attempt that finds nobody ends at once."""
        self.assertRaises(ConnectionLost, self.play, FakeScreen(), ConnectionLost("nobody"))

    def test_refusals(self) -> None:
        """What the daemon refuses for good ends the console in its own words, before or during the session."""
        body = {"error": {"code": "server_not_found", "message": "there is no server s"}}
        error = self.assertRaises(ConsoleRefused, self.play, FakeScreen(), lambda peer: peer.refuse(404, body))
        self.assertEqual(str(error), "server_not_found: there is no server s")

        def deleted(peer: ConsolePeer) -> None:
            peer.ready()
            peer.close(4404)

        error = self.assertRaises(ConsoleRefused, self.play, FakeScreen(), deleted)
        self.assertEqual(error.answer, "4404")

    def test_busy_and_strange(self) -> None:
        """A daemon that stops or is full, or something that is no daemon, counts as away."""
        body = {"error": {"code": "unavailable", "message": "stopping"}}
        error = self.assertRaises(ConnectionLost, self.play, FakeScreen(), lambda peer: peer.refuse(503, body))
        self.assertEqual(str(error), "unavailable: stopping")
        error = self.assertRaises(ConsoleRefused, self.play, FakeScreen(), lambda peer: peer.refuse(418, b"tea"))
        self.assertIn("418", str(error))
        self.assertRaises(ConnectionLost, self.play, FakeScreen(), lambda peer: peer.raw(b"SSH-2.0-x\r\n\r\n"))

    def test_silence(self) -> None:
        """A daemon that says nothing at all counts as lost."""
        self.patch(console_module, "SILENCE_LIMIT", 1.0)

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.until_gone()

        screen = FakeScreen((b"fallen silent", b"\x1d"))
        self.play(screen, script, *[ConnectionLost("no")] * 50)
