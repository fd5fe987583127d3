"""When output is a flood, and how much of it is let through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.flood import FloodBegan, FloodEnded, FloodGuard, Ration
from tests.examples import examples

Told = dict[int, FloodBegan | FloodEnded]


class FloodGuardTests(SynchronousTestCase):
    """100 bytes a second are too many, judged once a second."""

    def judged(self, sizes: list[int], guard: FloodGuard | None = None, start: int = 0) -> Told:
        """What is told at the end of which second."""
        guard = guard or FloodGuard(100)
        told = {start + at + 1: guard.judge(size, start + at, start + at + 1) for at, size in enumerate(sizes)}
        return {second: what for second, what in told.items() if what is not None}

    def test_rows(self) -> None:
        """It begins after three seconds over the rate, and ends after five below it."""
        began, quiet = FloodBegan(200.0, alert=True), [0] * 5
        rows: tuple[tuple[list[int], Told], ...] = (
            ([], {}),
            ([100] * 100, {}),
            ([10_000], {}),
            ([200, 200, 100, 200, 200, 0, 200, 200], {}),
            ([200, 200, 200], {3: began}),
            ([200] * 50, {3: began}),
            ([200, 200, 200, *quiet], {3: began, 8: FloodEnded(3.0, 600)}),
            ([200, 200, 200, 0, 0, 0, 0], {3: began}),
            ([200, 200, 200, 0, 0, 0, 50, 200, *quiet], {3: began, 13: FloodEnded(8.0, 850)}),
            ([100, 200, 200, 200, 7, *quiet], {4: began, 9: FloodEnded(3.0, 600)}),
        )
        for sizes, told in rows:
            self.assertEqual(self.judged(sizes), told, sizes)

    def test_an_alert_a_minute(self) -> None:
        """Each flood is told; the panel hears of one a minute."""
        guard = FloodGuard(100)
        once = [200] * 3 + [0] * 5
        alerts = [
            told.alert
            for start in range(0, 160, 8)
            for told in self.judged(once, guard, start).values()
            if isinstance(told, FloodBegan)
        ]
        self.assertEqual([at * 8 + 3 for at, alert in enumerate(alerts) if alert], [3, 67, 131])
        self.assertEqual(len(alerts), 20)

    def test_a_late_judgement(self) -> None:
        """What counts is bytes a second, however long the stretch became."""
        self.assertIsNone(FloodGuard(100).judge(400, 0, 4))
        self.assertEqual(FloodGuard(100).judge(500, 0, 4), FloodBegan(125.0, alert=True))

    def test_silence_may_go_unjudged(self) -> None:
        """Only while nothing is under way."""
        guard = FloodGuard(100)
        self.assertTrue(guard.quiet)
        guard.judge(200, 0, 1)
        self.assertFalse(guard.quiet)
        guard.judge(0, 1, 2)
        self.assertTrue(guard.quiet)


class RationTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """From a second's beginning until they are used up; what was too much is owed."""
        ration = Ration(100, 0.0)
        rows = (
            (0.0, 60, True), (0.1, 39, True), (0.2, 1, True), (0.3, 1, False), (0.99, 1, False),
            (1.0, 250, True), (1.1, 1, False), (2.0, 1, False), (3.0, 20, True), (3.1, 40, True),
            (50.0, 100, True), (50.5, 1, False), (51.0, 1, True),
        )  # fmt: skip
        for now, size, granted in rows:
            self.assertEqual(ration.take(size, now), granted, now)

    @examples(60)
    @given(st.lists(st.tuples(st.floats(0, 2.5), st.integers(1, 500)), max_size=60))
    def test_bounded(self, pieces: list[tuple[float, int]]) -> None:
        """Whatever comes when: a second's worth for each second that began, and one piece more, at most."""
        ration, now, granted = Ration(100, 0.0), 0.0, 0
        for pause, size in pieces:
            now += pause
            granted += size if ration.take(size, now) else 0
            self.assertLessEqual(granted, 100 * (now + 1) + 500)
