"""Takes a program's questions to the terminal out of output that is shown again. Performs no I/O.

A terminal answers a question (what are you, where is your cursor, which colour is your background) as if its user had
typed the answer. Whoever asked has gone long since when scrollback is shown, so the answer would go to the game.
What is asked while a viewer watches is not touched: a full-screen program needs to know.
"""

from __future__ import annotations

import re

LONGEST = 4096  # bytes between the beginning and the end of a sequence; a longer one is no question
_ENQ = b"\x05"
_CANCEL = b"\x18"  # stands where a question stood: shows nothing, and no sequence goes on over it

# A string's contents: up to what ends it or begins another sequence. U+0080 to U+009F are two bytes in UTF-8.
# Atomic, not possessive: in Debian 12's Python 3.11.2 a possessive group ends behind the place where it last failed.
_SAID = rb"(?>(?:[^\x18\x1a\x1b\xc2%b]|\xc2(?![\x80-\x9f]|\Z)){0,%d})"
_OSC_BEGIN, _OSC_SAID = rb"(?:\x1b\]|\xc2\x9d)", _SAID % (rb"\x07", LONGEST)
_STRING_BEGIN, _STRING_SAID = rb"(?:\x1b[PX^_]|\xc2[\x90\x98\x9e\x9f])", _SAID % (b"", LONGEST)
# Control characters inside a control sequence have their effect, and the sequence goes on.
_CSI_BEGIN, _CSI_SAID = rb"(?:\x1b\[|\xc2\x9b)", rb"[\x00-\x17\x19\x1c-?\x7f]{0,%d}+" % LONGEST
_CONTROLS = bytes((*range(0x20), 0x7F))

_WHOLE = re.compile(
    rb"%b(?P<csi>%b[@-~])" % (_CSI_BEGIN, _CSI_SAID)
    + rb"|%b(?P<osc>%b)(?:\x07|\x1b\\|\xc2\x9c)" % (_OSC_BEGIN, _OSC_SAID)
    + rb"|(?P<string>%b%b)(?:\x1b\\|\xc2\x9c)" % (_STRING_BEGIN, _STRING_SAID)
    + rb"|(?P<bare>\x05|\x1bZ|\xc2\x9a)"
)
_BEGUN = re.compile(
    rb"(?:[\x1b\xc2]|%b%b" % (_CSI_BEGIN, _CSI_SAID)
    + rb"|%b%b[\x1b\xc2]?|%b%b[\x1b\xc2]?)\Z" % (_OSC_BEGIN, _OSC_SAID, _STRING_BEGIN, _STRING_SAID)
)
_CSI_QUESTION = re.compile(
    rb"[>=]?[0-9;:]*c"  # device attributes
    rb"|\??[0-9;:]*n"  # status, cursor
    rb"|\??[0-9;:]*\$p"  # modes
    rb"|>[0-9;:]*q"  # name and version
    rb"|(?:11|13|14|15|16|18|19|20|21)(?:;[0-9;:]*)?t"  # window
    rb"|[01]?x|[0-9;:]*\+x"  # terminal parameters, function keys
    rb"|\?[0-9;:]*[Smu]|[0-9;:]*[$&]u"  # graphics, modified keys, kitty's keys, terminal state, character set
    rb"|[0-9;:]*(?:\$w|\*y|#R|#\||'\||\"v)"  # presentation, checksum, colours, letters' looks, locator, extent
)
_OSC_QUESTION = re.compile(
    rb"(?:[45]|1[0-9]|2[12]|50|52|99)(?:;.*)?[;=]\?(?:[;:].*)?|6[01](?:;.*)?|1337;Re(?:port|quest).*", re.DOTALL
)
_STRING_QUESTION = re.compile(
    rb"(?:\x1bP|\xc2\x90)[0-9;:]*(?:\$q|\+[qQ])"  # settings, capabilities, resources
    rb"|(?:\x1b_|\xc2\x9f)G(?:[^;]*,)?a=q[,;]"  # graphics
)


def _kept(found: re.Match[bytes]) -> bytes:
    """What is left of a whole sequence that a terminal might answer."""
    csi, osc, string = found["csi"], found["osc"], found["string"]
    if csi is not None:
        if not _CSI_QUESTION.fullmatch(csi.translate(None, _CONTROLS)):
            return found[0].replace(_ENQ, b"")
        return _CANCEL + bytes(byte for byte in csi if byte in _CONTROLS and byte not in _ENQ)
    if osc is not None:
        return _CANCEL if _OSC_QUESTION.fullmatch(osc) else found[0]
    if string is not None:
        return _CANCEL if _STRING_QUESTION.match(string) else found[0]
    return _CANCEL


class Unasked:
    """The same output for every chunking. What may become a question is held back, some 4 KiB at most."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be shown of `piece` and of what was held back."""
        seen = self._held + piece
        self._held = b""
        if not (b"\x1b" in seen or b"\xc2" in seen or _ENQ in seen):
            return seen
        begun = _BEGUN.search(seen, max(0, len(seen) - LONGEST - 4))
        if begun is not None:
            seen, self._held = seen[: begun.start()], seen[begun.start() :]
        return _WHOLE.sub(_kept, seen)

    def finish(self) -> bytes:
        """What was held back: nothing follows that could make a question of it."""
        held, self._held = self._held, b""
        return held


class PastOutput:
    """Output whose bytes before `end` came before its viewer did; from there on everything is shown as it is."""

    __slots__ = ("_unasked", "end")

    def __init__(self, end: int) -> None:
        self.end = end
        self._unasked = Unasked()

    def show(self, at: int, piece: bytes) -> bytes:
        """What a terminal is shown of `piece`, whose first byte is number `at`. Pieces come in order."""
        past = max(0, self.end - at)
        if not past:
            return self._unasked.finish() + piece
        shown = self._unasked.feed(piece[:past])
        return shown if past > len(piece) else shown + self._unasked.finish() + piece[past:]

    def break_off(self) -> bytes:
        """What follows next is no continuation: shows what was held back."""
        return self._unasked.finish()
