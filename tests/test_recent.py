"""The newest bytes of a console in memory: whatever pieces they came in."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.console.recent import Recent

START = 1000


class RecentMachine(RuleBasedStateMachine):
    """Beside a plain string of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.recent = Recent(START, b"before")
        self.whole = b"before"
        self.forgotten = 0  # bytes that may be gone

    @rule(size=st.sampled_from([1, 60, 2000, 4096, 4097, 20_000, 200_000]), byte=st.integers(0, 255))
    def append(self, size: int, byte: int) -> None:
        piece = bytes([byte]) * size
        self.recent.append(piece)
        self.whole += piece

    @rule(share=st.floats(0, 1))
    def trim(self, share: float) -> None:
        before = int(len(self.whole) * share)
        self.recent.trim(START + before)
        self.forgotten = max(self.forgotten, before)

    @rule(share=st.floats(0, 1))
    def cut(self, share: float) -> None:
        before = int(len(self.whole) * share)
        self.recent.cut(START + before)
        self.forgotten = max(self.forgotten, before)
        assert self.recent.start >= START + before

    @rule(start=st.floats(0, 1), size=st.sampled_from([0, 1, 100, 70_000, 1 << 30]))
    def read(self, start: float, size: int) -> None:
        at = START + int(len(self.whole) * start)
        pieces = self.recent.pieces(at, at + size)
        first = max(at, self.recent.start) - START
        assert b"".join(pieces) == self.whole[first : max(first, at - START + size)]
        assert all(pieces)

    @invariant()
    def bounds(self) -> None:
        assert self.recent.end == START + len(self.whole)
        assert START <= self.recent.start <= max(START, START + self.forgotten)
        assert self.recent.read(self.recent.start, self.recent.end) == self.whole[self.recent.start - START :]


class RecentTests(SynchronousTestCase):
    def test_any_pieces(self) -> None:
        """Any pieces, forgotten in any order, read from anywhere: the bytes that came, none that was not asked for."""
        RecentMachine.TestCase("runTest").debug()

    def test_large_pieces_are_not_copied(self) -> None:
        """A flood's piece is kept as the object it came as, and handed on as that."""
        recent, piece = Recent(0), b"x" * 100_000
        recent.append(b"small")
        recent.append(piece)
        self.assertIs(recent.pieces(5, 100_005)[0], piece)

    def test_small_pieces_are_put_together(self) -> None:
        """A game that prints byte by byte, written down after each, does not make an object of each."""
        recent = Recent(0)
        for number in range(20_000):
            recent.append(b"x")
            recent.pieces(number, number + 1)
        self.assertLess(len(recent.pieces(0, 20_000)), 4)
