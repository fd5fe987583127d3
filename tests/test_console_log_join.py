"""The join of a console with the engine's log: exact, or no join at all."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.log_join import EVIDENCE, PLACES, Joined, Kept, Unproved, join
from tests.examples import examples


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %06d\r\n" % number for number in range(first, last))


@dataclass(frozen=True)
class Story:
    """What a container printed (`said`), and who had it up to where."""

    said: bytes
    kept_from: int
    kept_to: int
    attached: int
    heard: int
    logged: int  # the log was read when this much had been printed
    log_from: int = 0

    @property
    def kept(self) -> Kept:
        return Kept(self.said[self.kept_from : self.kept_to], self.kept_from)

    @property
    def log(self) -> bytes:
        return self.said[self.log_from : self.said.rfind(b"\n", 0, self.logged) + 1]

    @property
    def live(self) -> bytes:
        return self.said[self.attached : self.heard]

    def join(self) -> Joined | Unproved:
        return join(self.kept, self.log, self.live, complete=not self.log_from, quiet=self.logged == self.heard)

    def whole(self, found: Joined) -> bytes:
        return self.said[: self.kept_to] + found.missing + (self.live if found.live_follows else b"")


@st.composite
def stories(draw: st.DrawFn) -> Story:
    lines = draw(st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"ab\r\n", b"> "]), max_size=40))
    said = b"".join(lines) + draw(st.sampled_from([b"", b"a", b"> "]))
    cuts = sorted(draw(st.lists(st.integers(0, len(said)), min_size=5, max_size=5)))
    return Story(said, *cuts)


class JoinTests(SynchronousTestCase):
    """PROTOCOL 8: text lines are exact, and where the join cannot be proved there is one gap, never a guess."""

    @examples(120)
    @given(stories())
    def test_a_join_is_exact_whatever_was_printed(self, story: Story) -> None:
        """However much the output repeats itself, what is joined is what the container said."""
        found = story.join()
        if isinstance(found, Joined):
            whole = story.whole(found)
            self.assertTrue(story.said.startswith(whole))
            self.assertEqual(found.live_follows, bool(story.live))
            self.assertGreaterEqual(len(whole), story.heard if story.live else len(story.log))

    @examples(50)
    @given(st.data())
    def test_distinct_lines_are_always_joined(self, data: st.DataObject) -> None:
        """Where lines differ and one came live in whole, there is a proof."""
        said = numbered(0, 60)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), min_size=4, max_size=4)))
        story = Story(said, 0, *cuts)
        found = story.join()
        if b"\n" in story.live and len(story.live) > 20:
            self.assertIsInstance(found, Joined)

    @examples(75)
    @given(st.data())
    def test_what_the_log_told_first_is_not_shown_twice(self, data: st.DataObject) -> None:
        """The log may tell lines that the PTY says a moment later: they are shown once, wherever the cuts fall."""
        said = numbered(0, 60)
        kept, attached, first, heard = sorted(data.draw(st.lists(st.integers(0, 60), min_size=4, max_size=4)))
        line = len(said) // 60
        one = join(Kept(said[: kept * line], 0), said[: first * line], b"", complete=True)
        assert isinstance(one, Joined)
        shown = said[: kept * line] + one.missing
        live = said[attached * line : heard * line]
        two = join(Kept(shown, 0), said[: heard * line], live, complete=True, from_log=len(one.missing))
        if live and heard > first:
            assert isinstance(two, Joined) and two.live_follows, two
        if isinstance(two, Joined):
            self.assertEqual(shown + two.missing + live[two.repeated :], said[: heard * line])

    def test_live_that_has_not_reached_what_the_log_told(self) -> None:
        """As long as the PTY has only said what is shown already, there is nothing to join yet."""
        kept = Kept(numbered(0, 9), 0)
        found = join(kept, numbered(0, 9), numbered(5, 7), complete=True, from_log=len(numbered(3, 9)))
        self.assertEqual(found, Unproved(hopeless=False))

    def test_a_rotated_log_is_joined_by_its_content(self) -> None:
        """A log that lost its start is matched with the end of the scrollback."""
        said = numbered(0, 3000)
        story = Story(said, 9000, 30_000, 30_500, 31_000, 33_000, log_from=12 * 1500)
        found = story.join()
        assert isinstance(found, Joined)
        self.assertEqual(story.whole(found), said[:31_000])

    def test_a_rotated_log_that_ends_within_what_is_kept(self) -> None:
        """Nothing was missed: an unfinished line is kept that the log does not have yet."""
        said = numbered(0, 3000)
        story = Story(said, 9000, 30_005, 30_005, 30_005, 30_006, log_from=12 * 1500)
        self.assertEqual(story.join(), Joined(b"", False))

    def test_no_proof_from_too_little(self) -> None:
        """A rotated log that agrees over a few bytes only proves nothing."""
        said = numbered(0, 3000)
        story = Story(said, 24_000, 24_000 + EVIDENCE // 2, 30_500, 31_000, 33_000, log_from=12 * 1500)
        self.assertEqual(story.join(), Unproved(hopeless=True))

    def test_a_log_that_begins_after_what_is_kept(self) -> None:
        """More was printed than the log holds: nobody knows what."""
        story = Story(numbered(0, 3000), 0, 8000, 30_500, 31_000, 33_000, log_from=12 * 1500)
        self.assertEqual(story.join(), Unproved(hopeless=True))

    def test_output_that_repeats_itself_is_not_guessed_at(self) -> None:
        """A flood of the same line has no place of its own, neither in a rotated log nor for what is live."""
        said = b"y\n" * 50_000
        self.assertEqual(
            Story(said, 0, 20_000, 30_000, 40_000, 50_000, log_from=10_000).join(), Unproved(hopeless=True)
        )
        self.assertEqual(Story(said, 0, 20_000, 30_000, 40_000, 50_000).join(), Unproved(hopeless=False))

    def test_a_pause_proves_what_repetition_hides(self) -> None:
        """Where the output stopped, the log ends with what came live."""
        story = Story(b"y\n" * 5000, 0, 2000, 3000, 4000, 4000)
        found = story.join()
        assert isinstance(found, Joined)
        self.assertEqual(len(found.missing), 1000)

    def test_more_places_than_are_looked_at(self) -> None:
        """A block that comes back more often than is worth looking at proves nothing."""
        block = numbered(0, EVIDENCE // 12 + 1)
        log = block * (PLACES + 2)
        self.assertEqual(join(Kept(block, 7), log, b"", complete=False), Unproved(hopeless=True))

    def test_the_runs_start_is_proof_enough(self) -> None:
        """A log that begins with all that is kept from the run's first byte on needs no more evidence."""
        said = numbered(0, 100)
        self.assertEqual(join(Kept(said[:50], 0), said, b"", complete=False), Joined(said[50:], False))

    def test_nothing_kept_of_the_run(self) -> None:
        """A run that nobody heard is taken from a whole log, and not from one that may have lost its start."""
        self.assertEqual(join(Kept(b"", 0), b"a\n", b"", complete=True), Joined(b"a\n", False))
        self.assertEqual(join(Kept(b"", 0), b"a\n", b"", complete=False), Unproved(hopeless=True))

    def test_a_log_that_is_no_copy(self) -> None:
        """Bytes that the engine's log shows differently are no proof, and no end of the daemon."""
        self.assertEqual(
            join(Kept(b"caf\xe9\nx", 0), "caf\ufffd\nxy\n".encode(), b"y\n", complete=True), Unproved(hopeless=True)
        )
