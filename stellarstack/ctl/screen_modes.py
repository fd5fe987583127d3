"""Remembers what a game has done to the operator's terminal, so that it can be given back as it was."""

from __future__ import annotations

import re

# A game that ends, or a console that is left, in the middle of a full-screen program leaves these on.
_OFF_BY_DEFAULT = frozenset(
    b"1 5 6 9 45 47 66 1000 1001 1002 1003 1004 1005 1006 1007 1015 1016 1047 1048 1049 2004 2026".split()
)
_ON_BY_DEFAULT = frozenset(b"7 25".split())  # lines that wrap, a cursor that shows
_ALTERNATE = frozenset(b"47 1047 1049".split())
_LONGEST = 64  # bytes of a sequence that may be cut by the end of a piece

# DEC private modes, xterm's modifyOtherKeys, scroll region, keypad, insert mode, character set, full reset
_SEQUENCE = re.compile(
    rb"\x1b\[\?(?P<modes>[0-9;]{1,48})(?P<set>[hl])|\x1b\[>4(?P<keys>(?:;[0-9]*)?)m"
    rb"|\x1b\[(?P<region>[0-9;]{0,20})r|\x1b(?P<keypad>[=>])|\x1b\[4(?P<insert>[hl])|\x1b\((?P<charset>[0AB])"
    rb"|\x1b(?P<reset>c)"
)


class ScreenModes:
    """Reads the game's output; `undo` says how to take back what it left behind."""

    def __init__(self) -> None:
        self._tail = b""
        self._changed: dict[bytes, None] = {}  # private modes that are not as by default, in the order they came
        self._marks: dict[str, bytes] = {}

    @property
    def alternate(self) -> bool:
        """Whether a full-screen program holds the screen."""
        return any(mode in _ALTERNATE for mode in self._changed)

    def feed(self, output: bytes) -> None:
        """The next bytes of the terminal."""
        if b"\x1b" not in output and not self._tail:
            return
        seen = self._tail + output
        done = 0
        for found in _SEQUENCE.finditer(seen):
            done = found.end()
            self._take(found)
        last = seen.rfind(b"\x1b", done)
        self._tail = seen[last:] if last >= 0 and len(seen) - last < _LONGEST else b""

    def _take(self, found: re.Match[bytes]) -> None:
        if found["reset"]:
            self._changed.clear()
            self._marks.clear()
        elif found["modes"]:
            for mode in found["modes"].split(b";"):
                self._mode(mode, on=found["set"] == b"h")
        else:
            self._mark("keys", found["keys"], (b"", b";", b";0"), b"\x1b[>4m")
            self._mark("region", found["region"], (b"", b";"), b"\x1b7\x1b[r\x1b8")
            self._mark("keypad", found["keypad"], (b">",), b"\x1b>")
            self._mark("insert", found["insert"], (b"l",), b"\x1b[4l")
            self._mark("charset", found["charset"], (b"B",), b"\x1b(B")

    def _mode(self, mode: bytes, *, on: bool) -> None:
        if mode in (_OFF_BY_DEFAULT if on else _ON_BY_DEFAULT):
            self._changed[mode] = None
        else:
            self._changed.pop(mode, None)

    def _mark(self, name: str, found: bytes | None, calm: tuple[bytes, ...], undo: bytes) -> None:
        if found is None:
            return
        if found in calm:
            self._marks.pop(name, None)
        else:
            self._marks[name] = undo

    def undo(self) -> bytes:
        """What brings the terminal back, the newest change first; colours and cursor always. Nothing is left after."""
        modes = (b"\x1b[?%b%b" % (mode, b"h" if mode in _ON_BY_DEFAULT else b"l") for mode in reversed(self._changed))
        found = b"".join((*self._marks.values(), *modes))
        self._changed.clear()
        self._marks.clear()
        return found + b"\x1b[0m\x1b[?25h"
