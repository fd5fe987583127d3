"""`stellarctl logs`: the newest lines of a console, and what follows them."""

from __future__ import annotations

import io
import os
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import Config
from stellarstack.ctl import attach, console, logs
from stellarstack.ctl.arguments import parser
from stellarstack.ctl.logs import LogLines, LogScreen, newest_lines
from stellarstack.ctl.websocket import Address, ConnectionLost, ConsoleRefused, ConsoleSocket
from tests.ctl_fakes import ConsolePeer
from tests.examples import examples

Script = Callable[[ConsolePeer], None]


def serve_history(peer: ConsolePeer, kept: bytes, first: int, asked: int) -> None:
    """Answers the `asked`-th question for history as the daemon does, out of `kept`, whose first byte is `first`."""

    def questions() -> list[dict[str, Any]]:
        return [frame for frame in peer.received if isinstance(frame, dict) and frame["type"] == "history"]

    peer.until(lambda: len(questions()) >= asked)
    question = questions()[asked - 1]
    before = question["before"]
    start = max(first, before - question["limit"])
    page = b64encode(kept[start - first : before - first]).decode()
    peer.frame(type="history", end=before, data=page, first=first, **{"from": start})


class PeerCase(SynchronousTestCase):
    def talk(self, script: Script) -> ConsoleSocket:
        peer = ConsolePeer(script)
        self.addCleanup(peer.finish)
        socket = ConsoleSocket(peer.near)
        self.addCleanup(socket.close)
        socket._shake_hands("h", "/console/s?scrollback=0", "t")
        return socket


class TestNewestLines(PeerCase):
    """Reading backwards."""

    def newest(self, kept: bytes, lines: int, *, first: int = 0, page: int = 8) -> tuple[bytes, int]:
        self.patch(logs, "PAGE", page)
        pages = len(kept) // page + 3

        def script(peer: ConsolePeer) -> None:
            peer.ready(start=first + len(kept))
            for number in range(1, pages):
                try:
                    serve_history(peer, kept, first, number)
                except (AssertionError, OSError):  # it had enough
                    return

        socket = self.talk(script)
        found = newest_lines(socket, lines)
        socket.close()
        return found

    @given(st.binary(max_size=40).map(lambda raw: raw.replace(b"z", b"\n")), st.integers(0, 6))
    @examples(25)
    def test_as_tail_does(self, kept: bytes, lines: int) -> None:
        """Pages of whatever size give the same bytes as `tail -n` of the whole."""
        rows = re.findall(b"[^\n]*\n|[^\n]+$", kept)
        expected = b"".join(rows[-lines:]) if lines else b""
        self.assertEqual(self.newest(kept, lines, first=1000), (expected, 1000 + len(kept)))

    def test_bounded(self) -> None:
        """A console without newlines is not held whole."""
        self.patch(logs, "MOST", 20)
        found, end = self.newest(b"x" * 200, 5)
        self.assertEqual((set(found), len(found), end), ({ord("x")}, 24, 200))

    def test_busy(self) -> None:
        """A daemon that is busy is asked again; any other error ends it."""

        def busy(peer: ConsolePeer) -> None:
            peer.ready(start=3)
            peer.output(b"live")
            peer.until(lambda: len(peer.received) >= 1)
            peer.frame(type="error", code="busy", message="later")
            serve_history(peer, b"a\nb", 0, 2)

        self.assertEqual(newest_lines(self.talk(busy), 5), (b"a\nb", 3))

        def strange(peer: ConsolePeer) -> None:
            peer.ready(start=3)
            peer.until(lambda: len(peer.received) >= 1)
            peer.frame(type="error", code="x", message="never")

        self.assertRaises(ConnectionLost, newest_lines, self.talk(strange), 5)

    def test_no_answer(self) -> None:
        """A daemon that keeps silent, closes or sends nonsense is told as such."""
        self.patch(logs, "PAGE_TIMEOUT", 0.05)

        def closes(peer: ConsolePeer) -> None:
            peer.ready(start=3)
            peer.close(4404)

        def nonsense(peer: ConsolePeer) -> None:
            peer.ready(start=3)
            peer.frame(type="history", end=3, data="%", first=0, **{"from": 0})

        def silent(peer: ConsolePeer) -> None:
            peer.accept()
            peer.until_gone()

        self.assertRaises(ConnectionLost, newest_lines, self.talk(silent), 5)
        self.assertRaises(ConsoleRefused, newest_lines, self.talk(closes), 5)
        self.assertRaises(ConnectionLost, newest_lines, self.talk(nonsense), 5)


class TestLogLines(SynchronousTestCase):
    """What is printed."""

    def shown(self, *pieces: bytes, colours: bool = False) -> str:
        out = io.StringIO()
        lines = LogLines(out, colours=colours)
        for piece in pieces:
            lines.feed(piece)
        lines.end()
        return out.getvalue()

    def test_rows(self) -> None:
        """No control character gets through; with colours only colours do, and they end with their line."""
        rows = [
            (b"a\r\nb", "a\nb\n", "a\nb\n"),
            (b"\x1b[31mred\x1b[0m\r\n", "red\n", "\x1b[31mred\x1b[0m\x1b[0m\n"),
            (b"\x1b]0;title\x07\x1b[2Jx\x1b[c\x1b[?1049h\n", "x\n", "x\n"),
            (b"10%\r20%\r\n", "10%\n20%\n", "10%\n20%\n"),
            (b"\xff\x00\x07\xc2\x9b31m!\n", "\ufffd!\n", "\ufffd!\n"),
            (b"", "", ""),
        ]
        for output, plain, coloured in rows:
            pieces = [output[at : at + 1] for at in range(len(output))]
            self.assertEqual((self.shown(output), self.shown(*pieces)), (plain, plain), output)
            self.assertEqual((self.shown(output, colours=True), self.shown(*pieces, colours=True)), (coloured,) * 2)

    def test_long_line(self) -> None:
        """A line without end is cut, not kept."""
        self.assertEqual(
            [len(line) for line in self.shown(b"x" * 70_000, b"y" * 70_000).splitlines()], [65536, 65536, 8928]
        )

    def test_nobody_reads(self) -> None:
        """Where the reader has gone the next wait says so, and what Python still holds goes nowhere."""
        reader, writer = os.pipe()
        os.close(reader)
        out = os.fdopen(writer, "w")
        lines = LogLines(out, colours=False)
        self.assertRaises(BrokenPipeError, LogScreen(lines, io.StringIO()).wait, [], 5, keys=False)
        out.write("held")
        lines.give_up()
        out.close()


class TestOpenLogs(PeerCase):
    """The whole, with a scripted daemon."""

    def setUp(self) -> None:
        self.paths: list[str] = []
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(console, "FIRST_DELAY", 0.01)

    def run_logs(self, *words: str, scripts: list[Script]) -> int:
        def dial(address: Address, path: str, token: str) -> ConsoleSocket:
            self.paths.append(path)
            return self.talk(scripts.pop(0))

        class Control:
            def post(self, target: str, body: Any) -> Any:
                return {"token": "t"}

        control: Any = Control()
        self.patch(ConsoleSocket, "open", dial)
        options = parser().parse_args(["logs", "s", *words])
        return attach.open_logs(options, Config(), control, self.out, self.err)

    def past(self, peer: ConsolePeer) -> None:
        peer.ready(start=8)
        serve_history(peer, b"one\ntwo\n", 0, 1)
        peer.until_gone()

    def test_last_lines(self) -> None:
        """The newest lines, and the end; what comes at the moment is not waited for."""
        self.assertEqual(self.run_logs("-n", "1", scripts=[self.past]), 0)
        self.assertEqual((self.out.getvalue(), self.paths), ("two\n", ["/console/s?scrollback=0"]))

    def test_follow(self) -> None:
        """With -f the lines go on where the past ended, over a broken connection too, until Ctrl-C: status 0."""

        def first(peer: ConsolePeer) -> None:
            peer.ready(start=8)
            peer.output(b"three\r\nfo")

        def second(peer: ConsolePeer) -> None:
            peer.ready(start=17)
            peer.output(b"ur\n")
            peer.frame(type="gap", to=900, **{"from": 20})
            peer.output(b"five\n")
            peer.frame(type="status", status="stopped")
            peer.until_closed()

        def interrupt(screen: LogScreen, text: str) -> None:
            self.err.write(f"[{text}]\n")
            if text == "s is stopped":
                raise KeyboardInterrupt

        self.patch(LogScreen, "say", interrupt)
        self.assertEqual(self.run_logs("-f", scripts=[self.past, first, second]), 0)
        self.assertEqual(self.out.getvalue(), "one\ntwo\nthree\nfour\nfive\n")
        self.assertEqual(self.paths[1:], ["/console/s?since=8", "/console/s?since=17"])
        self.assertIn("[880 bytes not shown here]", self.err.getvalue())

    def test_since(self) -> None:
        """From an offset on to where it was at the beginning; 0 is all that is kept, and a gap says what is not."""

        def script(peer: ConsolePeer) -> None:
            peer.ready(start=4, end=8)
            peer.frame(type="gap", to=4, **{"from": 0})
            peer.output(b"two\nlater")
            peer.until_closed()

        self.assertEqual(self.run_logs("--since", "0", scripts=[script]), 0)
        self.assertEqual((self.out.getvalue(), self.paths), ("two\n", ["/console/s?since=0"]))
        self.assertIn("[4 bytes not shown here]", self.err.getvalue())
