"""`stellarctl console`: what it types, shows, and does when the line breaks (PROTOCOL 8)."""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from wsproto import events as ws

from stellarstack.ctl import console as console_module
from stellarstack.ctl.console import Console
from stellarstack.ctl.control import Refused
from stellarstack.ctl.terminal import Terminal
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

    def size(self) -> tuple[int, int] | None:
        return self.dimensions

    def wait(self, others: list[Any], seconds: float) -> tuple[list[Any], bytes, bool]:
        ready, _, _ = select.select(others, [], [], min(max(seconds, 0), 0.01))
        typed = b""
        if self._typing and self._typing[0][0] in self.shown + "\n".join(self.said).encode():
            typed = self._typing.pop(0)[1]
        resized, self.resized = self.resized, False
        return ready, typed, resized

    def show(self, output: bytes) -> None:
        self.shown += output

    def say(self, text: str) -> None:
        self.said.append(text)


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
        self.assertEqual(screen.said, ["s is running"])
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

        self.play(FakeScreen((b"one", b"rm -rf"), (b"two", b"\x03")), script, read_only=True)

    def test_token_says_read_only(self) -> None:
        """Where the daemon says that nothing may be typed, the operator is told and nothing is sent."""

        def script(peer: ConsolePeer) -> None:
            peer.ready(can_write=False)
            peer.until_closed()
            self.assertEqual(len(peer.received), 1)

        screen = FakeScreen((b"read-only", b"x\x1d"))
        self.play(screen, script)
        self.assertIn("this console is read-only", screen.said)

    def test_told(self) -> None:
        """Status, gaps and errors are told; a token that ends is renewed on the same connection."""

        def script(peer: ConsolePeer) -> None:
            peer.ready()
            peer.frame(type="status", status="stopping")
            peer.frame(type="status", status="stopping")
            peer.frame(type="gap", to=900, **{"from": 400})
            peer.frame(type="gap", to=None, **{"from": 900})
            peer.frame(type="error", code="rate_limited", message="slower, please")
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
        expected = ["s is running", "s is stopping; Ctrl-] leaves", "500 bytes not shown here"]
        self.assertEqual([text.replace("; Ctrl-] leaves", "") for text in screen.said[:3]],
                         [text.replace("; Ctrl-] leaves", "") for text in expected])  # fmt: skip
        self.assertEqual(screen.said[3:], ["some output not shown here", "slower, please"])

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
        self.assertEqual(len([text for text in screen.said if "trying again" in text]), 1)

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


class TestTerminal(SynchronousTestCase):
    """The operator's own terminal."""

    def setUp(self) -> None:
        self.far, self.near = pty.openpty()
        self.addCleanup(os.close, self.far)
        self.addCleanup(os.close, self.near)
        self.before = termios.tcgetattr(self.near)

    def terminal(self) -> Terminal:
        return Terminal(keys=self.near, screen=self.near)

    def shown(self) -> bytes:
        """All up to the last thing that a terminal writes when it ends."""
        found = b""
        while b"\x1b[?2004l" not in found:
            found += os.read(self.far, 4096)
        return found

    def test_raw_and_back(self) -> None:
        """Inside, keys come unread by the line discipline; outside, the modes are as before, also after an error."""
        with self.terminal() as terminal:
            self.assertTrue(terminal.interactive)
            self.assertFalse(termios.tcgetattr(self.near)[3] & (termios.ICANON | termios.ECHO | termios.ISIG))
            os.write(self.far, b"\x03\x1d")
            self.assertEqual(terminal.wait([], 5)[1], b"\x03\x1d")
        self.assertEqual(termios.tcgetattr(self.near), self.before)
        with self.assertRaises(ZeroDivisionError), self.terminal():
            raise ZeroDivisionError
        self.assertEqual(termios.tcgetattr(self.near), self.before)

    def test_signals(self) -> None:
        """SIGTERM ends it with the tty restored; SIGWINCH wakes it; the signals' former meaning comes back."""
        former = signal.getsignal(signal.SIGTERM)
        with self.assertRaises(SystemExit) as caught, self.terminal():
            os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(caught.exception.code, 128 + signal.SIGTERM)
        self.assertEqual(termios.tcgetattr(self.near), self.before)
        self.assertEqual(signal.getsignal(signal.SIGTERM), former)
        with self.terminal() as terminal:
            os.kill(os.getpid(), signal.SIGWINCH)
            self.assertEqual(terminal.wait([], 5), ([], b"", True))
            self.assertEqual(terminal.wait([], 0), ([], b"", False))

    def test_size(self) -> None:
        """The window's size is kept within what the protocol allows."""
        termios.tcsetwinsize(self.near, (24, 80))
        self.assertEqual(self.terminal().size(), (80, 24))
        termios.tcsetwinsize(self.near, (0, 5000))
        self.assertEqual(self.terminal().size(), (1000, 1))

    def test_leaves_a_calm_screen(self) -> None:
        """A full-screen game's alternate screen, colours and mouse reports end with the console."""
        with self.terminal() as terminal:
            terminal.show(b"\x1b[?10")
            terminal.show(b"49hgame")
        shown = self.shown()
        self.assertTrue(shown.startswith(b"\x1b[?1049hgame\x1b[?1049l"))
        self.assertIn(b"\x1b[?25h", shown)
        with self.terminal() as terminal:
            terminal.show(b"plain")
        self.assertNotIn(b"1049", self.shown())

    def test_piped(self) -> None:
        """From a pipe Enter is made of each newline, and its end is seen."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        with Terminal(keys=reader, screen=self.near) as terminal:
            self.assertFalse(terminal.interactive)
            os.write(writer, b"say hi\n")
            self.assertEqual(terminal.wait([], 5)[1], b"say hi\r")
            os.close(writer)
            self.assertEqual(terminal.wait([], 5)[1], b"")
            self.assertTrue(terminal.keys_ended)

    def test_address(self) -> None:
        """An IPv6 address stands in brackets."""
        self.assertEqual(Address("::1", 80).url("/console"), "ws://[::1]:80/console")
        self.assertEqual(ADDRESS.url(""), "ws://127.0.0.1:8080")
