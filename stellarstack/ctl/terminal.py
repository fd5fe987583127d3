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

_READ_SIZE = 4096

# ends what a full-screen program may have left on: colours, hidden cursor, mouse reports, bracketed paste
_CALM = b"\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l"
_ALTERNATE_ON, _ALTERNATE_OFF = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """Standard input and output, as a context: raw inside, restored outside whatever happens.

    SIGTERM and SIGHUP end the context as an exit with their usual status; SIGWINCH wakes `wait`.
    """

    def __init__(self, keys: int | None = None, screen: int | None = None) -> None:
        self._keys = sys.stdin.fileno() if keys is None else keys
        self._screen = sys.stdout.fileno() if screen is None else screen
        self.interactive = os.isatty(self._keys)
        self._modes: list[Any] | None = None
        self._before: dict[int, Any] = {}
        self._wake_read, self._wake_write = -1, -1
        self._tail = b""
        self._alternate = False
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
            tty.setraw(self._keys)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._modes is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)
        if os.isatty(self._screen):
            self._write((_ALTERNATE_OFF if self._alternate else b"") + _CALM)

    def size(self) -> tuple[int, int] | None:
        """Columns and rows, 1 to 1000 each; None where the screen is no terminal."""
        try:
            found = os.get_terminal_size(self._screen)
        except OSError:
            return None
        return min(max(found.columns, 1), 1000), min(max(found.lines, 1), 1000)

    def wait(self, others: list[Any], seconds: float) -> tuple[list[Any], bytes, bool]:
        """Which of `others` can be read, what was typed, and whether the size has changed; after `seconds` at most."""
        keys = [] if self.keys_ended else [self._keys]
        ready, _, _ = select.select([*others, *keys, self._wake_read], [], [], max(seconds, 0))
        typed, resized = b"", False
        if self._wake_read in ready:
            os.read(self._wake_read, _READ_SIZE)
            resized = True
        if self._keys in ready:
            typed = self._read()
        return [one for one in others if one in ready], typed, resized

    def show(self, output: bytes) -> None:
        """Output of the game, byte for byte."""
        seen = self._tail + output
        on, off = seen.rfind(_ALTERNATE_ON), seen.rfind(_ALTERNATE_OFF)
        if on != off:
            self._alternate = on > off
        self._tail = seen[-len(_ALTERNATE_ON) :]
        self._write(output)

    def say(self, text: str) -> None:
        """A remark of stellarctl's own, on standard error."""
        sys.stderr.write(f"\r\n[{text}]\r\n" if self.interactive else f"[{text}]\n")
        sys.stderr.flush()

    def _read(self) -> bytes:
        try:
            typed = os.read(self._keys, _READ_SIZE)
        except OSError:
            typed = b""
        if not typed:
            self.keys_ended = True
        # a terminal in raw mode sends CR for Enter; a pipe ends its lines with LF
        return typed if self.interactive else typed.replace(b"\n", b"\r")

    def _write(self, output: bytes) -> None:
        view = memoryview(output)
        while view:
            view = view[os.write(self._screen, view) :]

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # it is awake already
            os.write(self._wake_write, b"w")


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
