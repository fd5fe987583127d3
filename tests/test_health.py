"""The health policy, at its exact borders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.health import Health, border, judge, missed
from tests.examples import examples


class HealthTests(SynchronousTestCase):
    """`judge` with the protocol's numbers: 30 s, 3 and 5."""

    def _judge(self, elapsed: float) -> Health:
        return judge(1000.0, 1000.0 + elapsed, 30.0, 3, 5)

    def test_borders(self) -> None:
        """Three missed heartbeats are 90 s and five are 150 s, to the moment."""
        rows = [
            (0.0, Health.HEALTHY),
            (30.0, Health.HEALTHY),
            (89.999, Health.HEALTHY),
            (90.0, Health.UNHEALTHY),
            (149.999, Health.UNHEALTHY),
            (150.0, Health.OFFLINE),
            (1e9, Health.OFFLINE),
        ]
        for elapsed, verdict in rows:
            self.assertIs(self._judge(elapsed), verdict, elapsed)

    def test_future(self) -> None:
        """A heartbeat from the future is fresh: a clock was set back (K22)."""
        self.assertIs(self._judge(-3600.0), Health.HEALTHY)
        self.assertEqual(missed(1000.0, 0.0, 30.0), 0)

    def test_counts(self) -> None:
        """A heartbeat counts as missed from the moment at which it was due."""
        self.assertEqual([missed(0.0, now, 30.0) for now in (0.0, 29.9, 30.0, 60.0, 91.0)], [0, 0, 1, 2, 3])

    @examples(35)
    @given(
        last=st.floats(0, 1e9),
        interval=st.floats(0.1, 3600),
        unhealthy=st.integers(1, 100),
        more=st.integers(1, 100),
    )
    def test_border_is_the_first_moment(self, last: float, interval: float, unhealthy: int, more: int) -> None:
        """At the border that `border` names the verdict has changed, and shortly before it has not."""
        offline = unhealthy + more
        at = border(last, interval, unhealthy)
        self.assertIs(judge(last, at + interval * 1e-4, interval, unhealthy, offline), Health.UNHEALTHY)
        self.assertIs(judge(last, at - interval * 1e-2, interval, unhealthy, offline), Health.HEALTHY)
        self.assertIs(judge(last, border(last, interval, offline) + interval * 1e-4, interval, unhealthy, offline),
                      Health.OFFLINE)  # fmt: skip

    @examples(35)
    @given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
    def test_never_recovers_by_waiting(self, moments: list[float]) -> None:
        """As time goes on without a heartbeat the verdict only gets worse."""
        order = list(Health)
        verdicts = [order.index(self._judge(moment)) for moment in sorted(moments)]
        self.assertEqual(verdicts, sorted(verdicts))
