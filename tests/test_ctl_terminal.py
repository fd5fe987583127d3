"""The operator's terminal under a console: raw inside, given back as it was."""

from __future__ import annotations

import os
import pty
import signal
import termios
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.ctl.terminal import Terminal
from stellarstack.ctl.websocket import Address


class TestTerminal(SynchronousTestCase):
    """The operator's own terminal."""

    def setUp(self) -> None:
        self.far, self.near = pty.openpty()
        self.addCleanup(os.close, self.far)
        self.addCleanup(os.close, self.near)
        self.before = termios.tcgetattr(self.near)

    def terminal(self, **more: Any) -> Terminal:
        return Terminal(keys=self.near, screen=self.near, remarks=self.near, **more)

    def shown(self) -> bytes:
        """All up to the last thing that a terminal writes when it ends."""
        found = b""
        while not found.endswith(b"\x1b[?25h"):
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

    def test_watching(self) -> None:
        """A console that only watches leaves Ctrl-C a signal, shows no key and sends none to be edited."""
        with self.terminal(watching=True):
            output, local = termios.tcgetattr(self.near)[1], termios.tcgetattr(self.near)[3]
            self.assertEqual(local & (termios.ICANON | termios.ECHO | termios.ISIG), termios.ISIG)
            self.assertFalse(output & termios.OPOST)
        self.assertEqual(termios.tcgetattr(self.near), self.before)

    def test_leaves_a_calm_screen(self) -> None:
        """A full-screen game's alternate screen, colours and mouse reports end with the console."""
        with self.terminal() as terminal:
            terminal.show(b"\x1b[?10")
            terminal.show(b"49h\x1b[?1002;1006hgame")
        self.assertEqual(
            self.shown(),
            b"\x1b[?1049h\x1b[?1002;1006hgame\x1b[?1006l\x1b[?1002l\x1b[?1049l\x1b[0m\x1b[?25h",
        )
        with self.terminal() as terminal:
            terminal.show(b"plain")
        self.assertEqual(self.shown(), b"plain\x1b[0m\x1b[?25h")

    def test_remarks(self) -> None:
        """Remarks stand on lines of their own, dim or inverted; over a full-screen program on its last line."""
        with self.terminal() as terminal:
            terminal.say("a")
            terminal.warn("b")
            terminal.show(b"\x1b[?1049h")
            terminal.say("c")
        shown = self.shown()
        self.assertIn(b"\r\n\x1b[2m[a]\x1b[22m\r\n\r\n\x1b[7m[b]\x1b[27m\r\n", shown)
        self.assertIn(b"\x1b7\x1b[999;1H\x1b[0m\x1b[2m[c]\x1b[22m\x1b[K\x1b8", shown)
        reader, writer = os.pipe()
        with Terminal(keys=reader, screen=writer, remarks=writer) as piped:
            piped.say("d")
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            self.assertEqual(file.read(), b"[d]\n")

    def test_nobody_reads(self) -> None:
        """Where the reader of the output has gone, a wait ends at once, though nothing is written."""
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        with Terminal(keys=self.near, screen=writer) as terminal:
            self.assertRaises(BrokenPipeError, terminal.wait, [], 5)

    def test_piped(self) -> None:
        """From a pipe Enter is made of each newline, and its end is seen."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        with Terminal(keys=reader, screen=self.near, remarks=self.near) as terminal:
            self.assertFalse(terminal.interactive)
            os.write(writer, b"say hi\n")
            self.assertEqual(terminal.wait([], 5)[1], b"say hi\r")
            os.close(writer)
            self.assertEqual(terminal.wait([], 5)[1], b"")
            self.assertTrue(terminal.keys_ended)

    def test_address(self) -> None:
        """An IPv6 address stands in brackets."""
        self.assertEqual(Address("::1", 80).url("/console"), "ws://[::1]:80/console")
        self.assertEqual(Address("127.0.0.1", 8080).url(""), "ws://127.0.0.1:8080")
