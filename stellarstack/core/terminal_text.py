"""A terminal's bytes as plain text, piece by piece: escape codes and control characters removed. Performs no I/O."""

from __future__ import annotations

import codecs
import re

from stellarstack.core.ansi import strip_ansi

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+")
_RETURNS = re.compile("\r+\n?")
# What may be the beginning of an escape code that goes on in the next piece: a string, a control sequence, another.
_UNFINISHED = re.compile(
    "(?P<string>\x1b[\\]PX^_])[^\x07\x1b\x9c]*(?P<escape>\x1b?)\\Z"
    "|(?P<sequence>\x1b\\[|\x9b)[0-?]*(?P<more>[ -/]*)\\Z"
    "|\x1b(?P<middle>[ -/]*)\\Z"
)


class TerminalText:
    """The same text for every chunking: UTF-8 (bad bytes as U+FFFD), lines ended by LF.

    CR LF is one line end, and so is a CR alone: what a progress bar overwrites is kept, a line each.
    """

    __slots__ = ("_decoder", "_escape", "_return")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._escape = ""  # an unfinished escape code, cut down to what tells how it goes on
        self._return = ""  # a CR whose LF may follow

    def feed(self, piece: bytes) -> str:
        """The text of `piece`, as far as it is certain."""
        return self._lines(self._strip(self._decoder.decode(piece)))

    def finish(self) -> str:
        """The rest; an unfinished escape code is dropped."""
        text = self._lines(self._strip(self._decoder.decode(b"", True)))
        ended, self._return, self._escape = self._return, "", ""
        return text + ("\n" if ended else "")

    def _strip(self, text: str) -> str:
        text, self._escape = self._escape + text, ""
        if "\x1b" in text or "\x9b" in text:
            found = _UNFINISHED.search(text)
            if found is not None:
                self._escape, text = _shortened(found), text[: found.start()]
            text = strip_ansi(text)
        return _CONTROLS.sub("", text)

    def _lines(self, text: str) -> str:
        if not text:
            return text
        text, self._return = self._return + text, ""
        if "\r" not in text:
            return text
        if text.endswith("\r"):
            text, self._return = text.rstrip("\r"), "\r"
        return _RETURNS.sub("\n", text)


def _shortened(found: re.Match[str]) -> str:
    """What was said is of no use, only where in the code we are; so that an endless one costs nothing."""
    if found["string"]:
        return found["string"] + found["escape"]
    if found["sequence"]:
        return found["sequence"] + found["more"][:1]
    return "\x1b" + found["middle"][:1]
