"""Questions to the terminal in output that is shown again: none is left, and all else is, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.questions import LONGEST, PastOutput, Unasked
from tests.examples import examples

# Each of them makes some terminal type an answer.
QUESTIONS = [
    b"\x05", b"\x1bZ", b"\xc2\x9a", b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[>0c", b"\x1b[=c", b"\xc2\x9bc",
    b"\x1b[5n", b"\x1b[6n", b"\x1b[?6n", b"\x1b[?996n", b"\xc2\x9b6n", b"\x1b[4$p", b"\x1b[?2026$p", b"\x1b[>q",
    b"\x1b[>0q", b"\x1b[11t", b"\x1b[14t", b"\x1b[14;2t", b"\x1b[18t", b"\x1b[21t", b"\x1b[x", b"\x1b[0x", b"\x1b[1x",
    b"\x1b[?u", b"\x1b[?1;1;0S", b"\x1b[?4m", b"\x1b[1$w", b"\x1b[1;1;1;1;9;9*y", b"\x1b[#R", b"\x1b[1'|",
    b"\x1b]4;1;?\x07", b"\x1b]4;1;red;2;?\x1b\\", b"\x1b]10;?\x07", b"\x1b]11;?\x1b\\", b"\x1b]11;?\xc2\x9c",
    b"\xc2\x9d12;?\x07", b"\x1b]10;?;?\x07", b"\x1b]52;c;?\x07", b"\x1b]50;?\x07", b"\x1b]21;foreground=?\x1b\\",
    b"\x1b]99;i=1:p=?;\x1b\\", b"\x1b]1337;ReportCellSize\x07", b"\x1b]4" + b";1;?" * 500 + b"\x07",
    b"\x1bP$qm\x1b\\", b"\x1bP+q544e;436f\x1b\\", b"\xc2\x90+q544e\xc2\x9c", b"\x1b_Gi=31,s=1,v=1,a=q,t=d;AAAA\x1b\\",
]  # fmt: skip
# What looks like it and is none: it changes what is seen, or is text.
OTHERS = [
    b"plain", b"\r\n", b"\x07", b"\x1b[31m", b"\x1b[?25l", b"\x1b[2 q", b"\x1b[?1c", b"\x1b[>4;1m", b"\x1b[>1n",
    b"\x1b[!p", b"\x1b[22;0t", b"\x1b[8;24;80t", b"\x1b[6", b"\x1b[1;2r", b"\x1b[s", b"\x1b[u", b"\x1b[>1u",
    b"\x1b[3S", b"\x1b[1;1;2;2$r", b"\x1b(0", b"\x1b(Z", b"\x1b7", b"\x1bc", b"6n", b"[c", b"Z", b"\x1b]0;what?\x07",
    b"\x1b]0;?\x07", b"\x1b]11;#102030\x07", b"\x1b]8;;https://a.example/?a=?\x1b\\", b"\x1b]52;c;aGk=\x07",
    b"\x1b]0;\x05\x07", b"\x1bP0;1q#0~~@@\x1b\\", b"\x1b_Ga=T,f=24;AAAA\x1b\\", b"\x1bXsaid\x1b\\", b"\x1b]11;?",
    b"\x1bP$q", b"\x1b", b"\x1b[", b"\x18", "é€😀Â".encode(), b"\xc2\xa0", b"\xc2", b"\x9b6n", b"\xff\x80",
    b"\x1b]11;?\x18", b"\x1b[6\x18",
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(QUESTIONS + OTHERS), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 150), max_size=12)
# Between two of these no question begins in one and ends in the next.
CALM = [b"plain ", b"\r\n", "é€😀 ".encode(), b"\x1b[31m", b"\x1b]0;what?\x07", b"\x1b[?1049h", b"\x1bP0;1q#0~\x1b\\"]


def chunked(whole: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


def left_of(pieces: Iterable[bytes]) -> bytes:
    unasked = Unasked()
    return b"".join([*map(unasked.feed, pieces), unasked.finish()])


class UnaskedTests(SynchronousTestCase):
    """The filter by itself."""

    def test_rows(self) -> None:
        """Each question goes, byte by byte, too; what is none stays."""
        for question in QUESTIONS:
            whole = b"before " + question + b" after"
            self.assertEqual(left_of([whole]), b"before \x18 after", question)
            self.assertEqual(left_of(bytes([byte]) for byte in whole), b"before \x18 after", question)
        for other in OTHERS:
            whole = b"before " + other + b"\r\nafter"
            self.assertEqual(left_of([whole]), whole, other)
            self.assertEqual(left_of(bytes([byte]) for byte in whole), whole, other)

    def test_within_a_sequence(self) -> None:
        """Control characters in a question keep their effect; what is left around a question makes no other one."""
        rows = [
            (b"\x1b[6\r\nn", b"\x18\r\n"), (b"\x1b[\x056n", b"\x18"), (b"\x1b[3\x051m", b"\x1b[31m"),
            (b"\x1b\x1b[6n[c", b"\x1b\x18[c"), (b"\x1b\x05[6n", b"\x1b\x18[6n"),
            (b"\x1b]11;\x1b[c?\x07", b"\x1b]11;\x18?\x07"),
        ]  # fmt: skip
        for whole, left in rows:
            self.assertEqual(left_of([whole]), left, whole)
            self.assertEqual(left_of(bytes([byte]) for byte in whole), left, whole)

    @examples(60)
    @given(STREAMS, CUTS)
    def test_any_chunking(self, whole: bytes, cuts: list[int]) -> None:
        """Any cuts leave the same, and nothing is asked in it any more."""
        left = left_of([whole])
        self.assertEqual(left_of(chunked(whole, cuts)), left)
        self.assertEqual(left_of(bytes([byte]) for byte in whole), left)
        self.assertEqual(left_of([left]), left)

    @examples(60)
    @given(st.lists(st.tuples(st.sampled_from(CALM), st.sampled_from([b"", *QUESTIONS])), max_size=12), CUTS)
    def test_nothing_else_is_taken(self, parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
        """Questions cut anywhere are removed (a CAN, which shows nothing, stands there); all else is left."""
        whole = b"".join(calm + question for calm, question in parts)
        self.assertEqual(left_of(chunked(whole, cuts)), b"".join(calm + b"\x18" * bool(asked) for calm, asked in parts))

    @examples(30)
    @given(st.binary(max_size=200), CUTS)
    def test_any_bytes(self, whole: bytes, cuts: list[int]) -> None:
        """Whatever it is, cuts make no difference."""
        self.assertEqual(left_of(chunked(whole, cuts)), left_of([whole]))

    def test_hold_back_is_bounded(self) -> None:
        """A sequence that never ends is shown all the same, and at most some 4 KiB of it wait."""
        for begin in (b"\x1b]11;", b"\x1bP+q", b"\x1b[", b"\x1b_G", b"\xc2\x9d4;"):
            unasked, shown = Unasked(), b""
            for count in range(1, 12):
                shown += unasked.feed(begin + b"1" * 998 if count == 1 else b"1" * 1000)
                self.assertLessEqual(len(unasked._held), LONGEST + 4)
            self.assertEqual(shown + unasked.finish(), begin + b"1" * 10998)

    def test_hostile_pages(self) -> None:
        """A page of nothing but beginnings is left as it is (and gone through once, or this would never end)."""
        for begin in (
            b"\x1b]",
            b"\xc2\x9d",
            b"\xc2\x90",
            b"\x1bP",
            b"\x1b[",
            b"\xc2\x9b",
            b"\xc2",
            b"\x1b",
            b"\x1b]4;\xc2",
        ):
            whole = begin * (262144 // len(begin))
            self.assertEqual(left_of([whole]), whole)


class PastOutputTests(SynchronousTestCase):
    """What is past and what is live."""

    def test_only_the_past(self) -> None:
        """A question before `end` goes, one after it stays, in the same piece as in another."""
        past = PastOutput(14)
        self.assertEqual(past.show(10, b"\x1b[6nx\x1b[6n"), b"\x18x\x1b[6n")
        self.assertEqual(past.show(19, b"\x1b[c"), b"\x1b[c")

    def test_asked_across_the_border(self) -> None:
        """A question that is whole only after its viewer came is a live one, and is shown at once."""
        past = PastOutput(12)
        self.assertEqual(past.show(10, b"\x1b["), b"\x1b[")
        self.assertEqual(past.show(12, b"6n"), b"6n")

    def test_a_break(self) -> None:
        """Where bytes are missing nothing is joined to what was held back."""
        past = PastOutput(100)
        self.assertEqual(past.show(10, b"a\x1b["), b"a")
        self.assertEqual(past.break_off(), b"\x1b[")
        self.assertEqual(past.show(50, b"6n"), b"6n")

    @examples(40)
    @given(STREAMS, CUTS, st.integers(0, 150))
    def test_any_pieces(self, whole: bytes, cuts: list[int], end: int) -> None:
        """The past without its questions, then the rest byte for byte."""
        past, at, shown = PastOutput(end), 0, b""
        for piece in chunked(whole, cuts):
            shown += past.show(at, piece)
            at += len(piece)
        self.assertEqual(shown + past.break_off(), left_of([whole[:end]]) + whole[end:])
