"""Scrollback on disk, written twice over."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.console.segments import Segments


class OverlapTests(SynchronousTestCase):
    def test_a_write_that_was_thought_broken_off(self) -> None:
        """K15: bytes that are there already are not taken for a hole: the past stays."""
        folder = Path(self.mktemp())
        folder.mkdir()
        segments = Segments(folder, 1 << 20)
        segments.write(0, b"a" * 1000)
        segments.write(500, b"a" * 500 + b"b" * 100)
        self.assertEqual((segments.first, segments.end), (0, 1100))
        self.assertEqual(segments.read(990, 20), (990, b"a" * 10 + b"b" * 10))
        segments.write(2000, b"c")
        self.assertEqual((segments.first, segments.end), (2000, 2001))
