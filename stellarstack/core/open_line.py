"""Whether somebody has half typed a line at a terminal, which a line typed after it would be glued to. No I/O."""

from __future__ import annotations

TAKE_AWAY = b"\x15"  # Ctrl-U: the terminal, or the game's own line editor, forgets the line typed so far

_ENTERED = b"\r\n"
_ERASE = b"\b\x7f"
_FORGET = b"\x03\x15\x1c"  # Ctrl-C and Ctrl-\ throw the line away as well


class OpenLine:
    """What all who type have entered of a line since its last CR or LF. Starts open where nobody knows (`unknown`).

    In doubt it says open: a Ctrl-U where there is nothing to take away does nothing.
    """

    def __init__(self, *, unknown: bool = False) -> None:
        self._bytes = 1 if unknown else 0
        self._sure = not unknown

    @property
    def open(self) -> bool:
        return self._bytes > 0

    def feed(self, data: bytes) -> None:
        """Keystrokes of anybody, in the order in which the terminal gets them."""
        if len(data) == 1 and b" " <= data < b"\x7f":
            self._bytes += 1
            return
        begins = max(map(data.rfind, (_ENTERED[:1], _ENTERED[1:], *(bytes([key]) for key in _FORGET)))) + 1
        if begins:
            self._bytes, self._sure = 0, True
        for key in data[begins:]:
            if key not in _ERASE:
                self._bytes += 1
            elif self._bytes > (0 if self._sure else 1):
                self._bytes -= 1

    def keys(self, line: str) -> bytes:
        """The keystrokes that enter `line` whole, whatever was half typed before it."""
        return (TAKE_AWAY if self.open else b"") + line.encode() + b"\r"
