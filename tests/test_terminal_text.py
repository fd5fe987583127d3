"""Terminal output as plain text, searched lines, recordings: the same for every chunking."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.asciicast import CastWriter
from stellarstack.core.line_search import LINE_MOST, LineMatcher
from stellarstack.core.patterns import BadPattern
from stellarstack.core.records import PtySize
from stellarstack.core.terminal_text import TerminalText
from tests.examples import examples

NASTY = st.sampled_from([
    b"\x1b", b"\x1b[", b"\x1b]0;title", b"\x07", b"\x1b\\", b"\x1bP", b"\xc2\x9b", b"\xc2\x9c", b"\x1b(", b"\x1b(B",
    b"31;1", b"m", b"K", b" ", b"\r", b"\n", b"\r\n", b"\r\r\n", b"\t", b"\x00", b"\x08", b"\x7f", b"plain", b"~", b"@",
    b"\xe2\x82\xac", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\x80", b"\xff", b"\xc2\x85",
])  # fmt: skip
STREAMS = st.lists(NASTY, max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=12)


def chunked(whole: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


def text_of(pieces: Iterable[bytes]) -> str:
    text = TerminalText()
    return "".join([*map(text.feed, pieces), text.finish()])


class TextTests(SynchronousTestCase):
    """Escape codes and control characters go, lines stay."""

    def test_rows(self) -> None:
        """Each is what a person would read."""
        rows = [
            (b"plain\n", "plain\n"),
            (b"\x1b[1;31mred\x1b[0m\r\n", "red\n"),
            (b"\x1b]0;a title\x07x", "x"),
            (b"\x1b]8;;https://a.example\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"10%\r20%\r\r\n", "10%\n20%\n"),
            (b"a\rb", "a\nb"),
            (b"end\r", "end\n"),
            (b"\x1bPq\nmany\nlines\x1b\\x", "x"),
            (b"a\x00\x08\x7f\xc2\x85b\tc", "ab\tc"),
            (b"\x1b(Bx\x1b=y\x1b7z", "xyz"),
            ("é€😀".encode(), "é€😀"),
            (b"\xe2\x82", "\ufffd"),
            (b"never ends \x1b[31", "never ends "),
            (b"\x1b[ 1x", "1x"),
        ]
        for piece, expected in rows:
            self.assertEqual(text_of([piece]), expected, piece)

    @examples(50)
    @given(STREAMS, CUTS)
    def test_any_chunking(self, whole: bytes, cuts: list[int]) -> None:
        """K19: any cuts give the same text; nothing in it moves a cursor; it is UTF-8."""
        text = text_of(chunked(whole, cuts))
        self.assertEqual(text, text_of([whole]))
        self.assertEqual(text, text_of(chunked(whole, range(len(whole)))))
        self.assertEqual([c for c in text if (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0) and c not in "\t\n"], [])
        text.encode()

    def test_endless_escape_codes(self) -> None:
        """One that never ends costs no memory, and what follows it is read."""
        text = TerminalText()
        for start in (b"\x1b]0;", b"\x1b[1"):
            self.assertEqual([text.feed(start), *(text.feed(b"1" * 65536) for _ in range(50))], [""] * 51)
            self.assertLess(len(text._escape), 10)
            self.assertEqual(text.feed(b"\x07" if start[1:2] == b"]" else b"m") + text.feed(b"on"), "on")


class SearchTests(SynchronousTestCase):
    """Lines as a person sees them."""

    def found(self, query: str, piece: bytes, most: int = 100, **how: bool) -> list[tuple[int, str]]:
        return [(line.at, line.text) for line in LineMatcher(query, **how).search(piece, most)]

    def test_rows(self) -> None:
        """Literal, without case, or as an expression; escape codes and the CR at a line's end are not there."""
        piece = b"one\r\n\x1b[32mT\x1b[1mwo\x1b[0m words\r\nthree (3)\n\nEND"
        rows = [
            ("two", {}, [(5, "Two words")]),
            ("two", {"case": True}, []),
            ("Two", {"case": True}, [(5, "Two words")]),
            ("(3)", {}, [(29, "three (3)")]),
            ("e", {}, [(40, "END"), (29, "three (3)"), (0, "one")]),
            ("^T.o", {"regex": True}, [(5, "Two words")]),
            ("e$", {"regex": True}, [(0, "one")]),
            ("(3)", {"regex": True}, [(29, "three (3)")]),
            ("e.*t", {"regex": True}, []),
            ("[^x]+", {"regex": True}, [(40, "END"), (29, "three (3)"), (5, "Two words"), (0, "one")]),
            ("^$", {"regex": True}, [(39, "")]),
            (r"\Aend\z", {"regex": True}, [(40, "END")]),
            ("31", {}, []),
            ("ä", {}, []),
        ]
        for query, how, expected in rows:
            self.assertEqual(self.found(query, piece, **how), expected, query)
        self.assertEqual(self.found("e", piece, 1), [(40, "END")])
        self.assertEqual(self.found("É", "café\n".encode()), [(0, "café")])

    def test_each_line_of_its_own(self) -> None:
        """A string code that never ends hides its own line, not those that follow."""
        self.assertEqual(self.found("after", b"\x1b]0;unfinished\nafter\n"), [(15, "after")])

    def test_long_lines(self) -> None:
        """4 KiB of it are shown, with what was found in it."""
        line = "é".encode() * 20_000 + b"needle" + "é".encode() * 20_000
        ((at, text),) = self.found("needle", b"x\n" + line + b"\n")
        self.assertEqual(at, 2)
        self.assertIn("needle", text)
        self.assertNotIn("\ufffd", text)
        self.assertTrue(LINE_MOST - 4 <= len(text.encode()) <= LINE_MOST)

    def test_w18_hostile_patterns(self) -> None:
        """What would take years elsewhere is linear here; what RE2 does not know, or is too long, is refused."""
        self.assertEqual(self.found("(a+)+$", b"a" * 50_000 + b"b", regex=True), [])
        for wrong in ("(", "(?=a)", r"(a)\1", "a" * 257, "", "\ud800", "(" * 200, "x{1000}{1000}"):
            with self.assertRaises(BadPattern):
                LineMatcher(wrong, regex=True)

    @examples(40)
    @given(STREAMS, st.sampled_from(["a", "plain", "m", "€", "31;1", " "]))
    def test_as_line_by_line(self, whole: bytes, query: str) -> None:
        """All at once finds what each line alone does, at the same place."""
        matcher = LineMatcher(query)
        one_by_one = []
        at = 0
        for line in whole.split(b"\n"):
            one_by_one += [(at, found.text) for found in matcher.search(line, 9)]
            at += len(line) + 1
        self.assertEqual([(found.at, found.text) for found in matcher.search(whole, 999)], one_by_one[::-1])


class CastTests(SynchronousTestCase):
    """asciicast v2."""

    def test_a_recording(self) -> None:
        """Header, output with its times, a resize, a mark; times never go back."""
        cast = CastWriter(1000.5)
        lines = cast.header(PtySize(100, 30), "srv_1")
        lines += cast.output(10, b"abcdef", [(10, 1000.5), (12, 1001.0), (14, 999.0)])
        lines += cast.resize(PtySize(80, 24)) + cast.output(16, "é".encode()[:1], [(10, 1000.5), (16, 1003.25)])
        lines += cast.output(17, "é".encode()[1:], []) + cast.mark("exited with code 1", 1004.0) + cast.finish()
        header, *events = [json.loads(line) for line in lines.splitlines()]
        told = {"version": 2, "width": 100, "height": 30, "timestamp": 1000, "title": "srv_1"}
        self.assertEqual(header, told)
        self.assertEqual(events, [
            [0.0, "o", "ab"], [0.5, "o", "cd"], [0.5, "o", "ef"], [0.5, "r", "80x24"], [2.75, "o", "é"],
            [3.5, "m", "exited with code 1"],
        ])  # fmt: skip

    @examples(30)
    @given(STREAMS, CUTS, st.lists(st.tuples(st.integers(0, 120), st.floats(0, 100)), max_size=8))
    def test_nothing_is_lost(self, whole: bytes, cuts: list[int], times: list[tuple[int, float]]) -> None:
        """Whatever the pieces and the marks, the text is the stream's, and time only goes forward."""
        cast, at = CastWriter(0.0), 0
        marks = sorted(dict(times).items())
        lines = b""
        for piece in chunked(whole, cuts):
            lines += cast.output(at, piece, marks)
            at += len(piece)
        events = [json.loads(line) for line in (lines + cast.finish()).splitlines()]
        self.assertEqual("".join(event[2] for event in events), whole.decode("utf-8", "replace"))
        moments = [event[0] for event in events]
        self.assertEqual(moments, sorted(moments))
