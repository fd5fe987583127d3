"""Characters, lines, escape codes and frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.ansi import plain_text, strip_ansi
from stellarstack.core.frames import binary_frame, gap_frame, output_frame, stats_frame, status_frame, text_frame
from stellarstack.core.streams import LINE_MAX, LineCutter, orphans, readable, unfinished
from tests.examples import examples


class CharacterTests(SynchronousTestCase):
    """K19: where a character ends."""

    @examples(100)
    @given(st.binary(max_size=40), st.text(max_size=10))
    def test_unfinished(self, junk: bytes, text: str) -> None:
        """What is cut off is exactly what more bytes could complete; the rest reads the same alone and with it."""
        for whole in (junk, text.encode(), junk + text.encode()):
            for at in range(len(whole) + 1):
                piece = whole[:at]
                back = unfinished(piece)
                head = piece[: len(piece) - back]
                together = head.decode("utf-8", "replace") + whole[len(head) :].decode("utf-8", "replace")
                self.assertEqual(together, whole.decode("utf-8", "replace"))

    def test_rows(self) -> None:
        """Leads, continuations, overlong forms, surrogates."""
        for piece, back in (
            (b"", 0), (b"a", 0), (b"\xc3", 1), (b"\xe2\x82", 2), (b"\xf0\x9f\x98", 3), (b"\xc3\xa9", 0), (b"\xc0", 0),
            (b"\xe0\x80", 0), (b"\xed\xa0", 0), (b"\xf4\x90", 0), (b"\xf5", 0), (b"\x80\x80\x80\x80", 0), (b"a\x80", 0),
        ):  # fmt: skip
            self.assertEqual(unfinished(piece), back, piece)

    def test_orphans(self) -> None:
        """The bytes at the start that end an earlier character."""
        for piece, count in ((b"", 0), (b"a", 0), (b"\xa9a", 1), (b"\x82\xac\xe2", 2), (b"\x80" * 9, 3)):
            self.assertEqual(orphans(piece), count)


class LineTests(SynchronousTestCase):
    """EGGS.md section 3."""

    def lines(self, pieces: Iterable[bytes]) -> tuple[list[str], str]:
        cutter = LineCutter()
        found = [line for piece in pieces for line in cutter.feed(piece)]
        return found, cutter.part

    @examples(50)
    @given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b" ", b"\xc3\xa9", b"x" * 40000, b"\x1b[1m"]), max_size=12),
           st.lists(st.integers(0, 200_000), max_size=5))  # fmt: skip
    def test_any_cuts(self, words: list[bytes], cuts: list[int]) -> None:
        """Lines do not depend on how the stream was cut; who skips them has the same unfinished line."""
        whole = b"".join(words)
        edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
        pieces = [whole[start:end] for start, end in pairwise(edges)]
        lines = self.lines([whole])
        if max(map(len, whole.split(b"\n"))) <= LINE_MAX:
            self.assertEqual(self.lines(pieces), lines)
        skipping = LineCutter()
        skipping.skip(whole)
        self.assertEqual(skipping.part, lines[1])

    def test_rows(self) -> None:
        """CR at the end goes, space + CR breaks inside, escape codes go, long lines are cut and go on."""
        self.assertEqual(self.lines([b"a\r\nb"]), (["a"], "b"))
        self.assertEqual(readable(b"> \rDone"), ">\r\nDone")
        self.assertEqual(self.lines([b"\x1b[1G \x1b[0J> x\n"])[0], [" > x"])
        long = b"x" * (2 * LINE_MAX + 5)
        self.assertEqual([len(line) for line in self.lines([long + b"\n"])[0]], [LINE_MAX, LINE_MAX, 5])
        found, part = self.lines([long])
        self.assertEqual(([len(line) for line in found], len(part)), ([LINE_MAX, LINE_MAX], 5))
        self.assertEqual(self.lines([b"x" * 40000, b"y" * 40000])[0], [("x" * 40000 + "y" * 40000)[:LINE_MAX]])

    def test_flush(self) -> None:
        """The last line of a run needs no newline."""
        cutter = LineCutter()
        self.assertIsNone(cutter.flush())
        list(cutter.feed(b"bye"))
        self.assertEqual((cutter.flush(), cutter.part), ("bye", ""))


class AnsiTests(SynchronousTestCase):
    """Escape codes as real servers print them."""

    def test_rows(self) -> None:
        """CSI, OSC with BEL and ST, character sets, C1, unfinished ones."""
        for text, plain in (
            ("plain", "plain"), ("\x1b[32;1mok\x1b[0m", "ok"), ("\x1b]0;title\x07x", "x"), ("\x1b]8;;u\x1b\\x", "x"),
            ("\x1b(Bx", "x"), ("\x9b1mx", "x"), ("\x1b[?2004l\r x", "\r x"), ("x\x1b[", "x"), ("x\x1b", "x"),
            ("\x1b7x\x1b8", "x"), ("\x1bPq#1\x1b\\x", "x"),
        ):  # fmt: skip
            self.assertEqual(strip_ansi(text), plain, repr(text))

    def test_plain_text(self) -> None:
        """P06: no control characters but tab, CR and LF."""
        self.assertEqual(plain_text("a\x07\x00\x1b[1m\tb\r\n\x85"), "a\tb\r\n")


class FrameTests(SynchronousTestCase):
    """RFC 6455: FIN, no mask, the shortest length."""

    def test_lengths(self) -> None:
        """Each of the three forms of a length."""
        for size, head in ((125, b"\x82\x7d"), (126, b"\x82\x7e\x00\x7e"), (65535, b"\x82\x7e\xff\xff"),
                           (65536, b"\x82\x7f" + (65536).to_bytes(8, "big"))):  # fmt: skip
            self.assertEqual(binary_frame(b"x" * size), head + b"x" * size)

    @examples(35)
    @given(st.text(max_size=200))
    def test_output(self, text: str) -> None:
        """P06: any text is valid JSON and valid UTF-8, and reads the same."""
        frame = output_frame(text, 1, 2, 1.5)
        found = json.loads(frame[2 if frame[1] < 126 else 4 :])
        self.assertEqual(found, {"type": "output", "data": text, "timestamp": 1.5, "offset": 1, "end": 2})

    def test_others(self) -> None:
        """The other frames of the daemon."""
        for frame, wanted in (
            (gap_frame(3, None), {"type": "gap", "from": 3, "to": None}),
            (status_frame("running"), {"type": "status", "status": "running"}),
            (stats_frame({"cpu": 1.0}), {"type": "stats", "metrics": {"cpu": 1.0}}),
            (text_frame({"x": "\ud800"}), {"x": "?"}),
        ):
            self.assertEqual(json.loads(frame[2:]), wanted)
