"""The operator's own terminal: raw while a console is open, and always given back as it was."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from stellarstack.ctl.screen import wait_for
from stellarstack.ctl.screen_modes import ScreenModes

_READ_SIZE = 4096
_LOCAL, _SPECIAL = 3, 6  # where tcgetattr has the local modes and the special characters
_DIM, _LOUD = b"\x1b[2m", b"\x1b[7m"
_NOT_DIM, _NOT_LOUD = b"\x1b[22m", b"\x1b[27m"


class Terminal:
    """Standard input and output, as a context: raw inside, restored outside whatever happens.

    With `watching` nothing is typed to the game: keys are neither shown nor sent, and Ctrl-C interrupts us.
    SIGTERM and SIGHUP end the context as an exit with their usual status; SIGWINCH wakes `wait`.
    """

    def __init__(
        self, keys: int | None = None, screen: int | None = None, remarks: int | None = None, *, watching: bool = False
    ) -> None:
        self._keys = sys.stdin.fileno() if keys is None else keys
        self._screen = sys.stdout.fileno() if screen is None else screen
        self._remarks = sys.stderr.fileno() if remarks is None else remarks
        self._watching = watching
        self.interactive = os.isatty(self._keys)
        self._modes: list[Any] | None = None
        self._before: dict[int, Any] = {}
        self._wake_read, self._wake_write = -1, -1
        self._left_on = ScreenModes()
        self._styled = os.isatty(self._remarks)
        self._on_screen = self._styled and os.isatty(self._screen)
        self.keys_ended = False

    def __enter__(self) -> Self:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGWINCH: self._resized,
            signal.SIGTERM: _exit,
            signal.SIGHUP: _exit,
        }
        for number, handler in handlers.items():
            self._before[number] = signal.signal(number, handler)
        if self.interactive:
            self._modes = termios.tcgetattr(self._keys)
            (_watch if self._watching else tty.setraw)(self._keys)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.isatty(self._screen):
            with suppress(OSError):  # the terminal itself has gone
                self._write(self._screen, self._left_on.undo())
        if self._modes is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def size(self) -> tuple[int, int] | None:
        """Columns and rows, 1 to 1000 each; None where the screen is no terminal."""
        try:
            found = os.get_terminal_size(self._screen)
        except OSError:
            return None
        return min(max(found.columns, 1), 1000), min(max(found.lines, 1), 1000)

    def wait(self, others: list[Any], seconds: float, *, keys: bool = True) -> tuple[list[Any], bytes, bool]:
        """See Screen.wait."""
        asked = [self._keys] if keys and not self.keys_ended else []
        ready = wait_for([*others, *asked, self._wake_read], seconds, self._screen)
        typed, resized = b"", False
        if self._wake_read in ready:
            os.read(self._wake_read, _READ_SIZE)
            resized = True
        if self._keys in ready:
            typed = self._read()
        return [one for one in others if one in ready], typed, resized

    def show(self, output: bytes) -> None:
        """Output of the game, byte for byte."""
        self._left_on.feed(output)
        self._write(self._screen, output)

    def say(self, text: str) -> None:
        """A remark of stellarctl's own, dim, on standard error."""
        self._remark(text, _DIM, _NOT_DIM)

    def warn(self, text: str) -> None:
        """A remark that stands out."""
        self._remark(text, _LOUD, _NOT_LOUD)

    def _remark(self, text: str, on: bytes, off: bytes) -> None:
        words = f"[{text}]".encode(errors="replace")
        if self._on_screen and self._left_on.alternate:
            # a full-screen program draws here: on its last line, cursor and colours put back
            words = b"\x1b7\x1b[999;1H\x1b[0m" + on + words + off + b"\x1b[K\x1b8"
        elif self._styled:
            words = (b"\r\n" if self.interactive else b"") + on + words + off + b"\r\n"
        else:
            words += b"\n"
        with suppress(OSError):  # what is said beside the console never ends it
            self._write(self._remarks, words)

    def _read(self) -> bytes:
        try:
            typed = os.read(self._keys, _READ_SIZE)
        except OSError:
            typed = b""
        if not typed:
            self.keys_ended = True
        # a terminal in raw mode sends CR for Enter; a pipe ends its lines with LF
        return typed if self.interactive else typed.replace(b"\n", b"\r")

    def _write(self, where: int, output: bytes) -> None:
        view = memoryview(output)
        while view:
            try:
                view = view[os.write(where, view) :]
            except BlockingIOError:  # somebody else who has this terminal open made it so
                select.select([], [where], [])

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # it is awake already
            os.write(self._wake_write, b"w")


def _watch(keys: int) -> None:
    """Keys come one by one and unseen, output goes out as it is, and Ctrl-C is still a signal."""
    modes = termios.tcgetattr(keys)
    modes[1] &= ~termios.OPOST
    modes[_LOCAL] &= ~(termios.ECHO | termios.ICANON)
    for character in (termios.VSUSP, termios.VQUIT):
        modes[_SPECIAL][character] = b"\0"
    modes[_SPECIAL][termios.VMIN], modes[_SPECIAL][termios.VTIME] = 1, 0
    termios.tcsetattr(keys, termios.TCSAFLUSH, modes)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
