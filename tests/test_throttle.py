"""Who may connect before the login: rate, number and backoff, in a bounded memory (SECURITY F5, S04)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.throttle import Throttle, ThrottleLimits


def throttle(waiting: int = 100, of_one: int = 50, rate: float = 5.0) -> Throttle:
    return Throttle(ThrottleLimits(waiting, of_one, rate))


class ThrottleTests(SynchronousTestCase):
    def let_in(self, found: Throttle, host: str, now: float, tries: int = 100) -> int:
        return sum(found.admit(host, now) for _ in range(tries))

    def test_rate(self) -> None:
        """Twice the rate at once, then the rate; each address has its own."""
        found = throttle()
        self.assertEqual(self.let_in(found, "192.0.2.1", 0.0), 10)
        self.assertEqual(self.let_in(found, "192.0.2.2", 0.0), 10)
        self.assertEqual(self.let_in(found, "192.0.2.1", 1.0), 5)
        self.assertEqual(self.let_in(found, "192.0.2.1", 100.0), 10)

    def test_a_slow_rate(self) -> None:
        """Less than one a second is no never."""
        found = throttle(rate=0.1)
        self.assertEqual(self.let_in(found, "192.0.2.1", 0.0), 1)
        self.assertEqual(self.let_in(found, "192.0.2.1", 5.0), 0)
        self.assertEqual(self.let_in(found, "192.0.2.1", 11.0), 1)

    def test_numbers(self) -> None:
        """So many of one, whom leaving makes room for; of all, beyond their number one is to give way."""
        found = throttle(waiting=6, of_one=4)
        self.assertEqual(self.let_in(found, "192.0.2.1", 0.0), 4)
        self.assertEqual(self.let_in(found, "192.0.2.2", 0.0, 2), 2)
        self.assertFalse(found.crowded)
        self.assertTrue(found.admit("192.0.2.3", 0.0))
        self.assertTrue(found.crowded)
        found.left("192.0.2.1", 0.0)
        self.assertFalse(found.crowded)
        self.assertEqual(self.let_in(found, "192.0.2.1", 60.0), 1)

    def test_one_address(self) -> None:
        """A /64 of IPv6 is one; an IPv4 address within IPv6 is itself."""
        found = throttle(of_one=1)
        rows = [
            ("2001:db8::1", True), ("2001:db8::2:3", False), ("2001:db8:0:1::1", True), ("::ffff:192.0.2.9", True),
            ("192.0.2.9", False), ("fe80::1%eth0", True), ("fe80::2%eth1", False), ("", True), ("", False),
        ]  # fmt: skip
        for host, good in rows:
            self.assertEqual(found.admit(host, 0.0), good, host)

    def test_backoff(self) -> None:
        """Five wrong logins are free; then 1, 2, 4 … 60 s; a good one, or ten quiet minutes, forgive."""
        found = throttle()
        for _ in range(5):
            found.failed("192.0.2.1", 0.0)
        self.assertTrue(found.admit("192.0.2.1", 0.0))
        for failure, wait in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
            now = 100.0 * (failure + 1)
            found.failed("192.0.2.1", now)
            self.assertFalse(found.admit("192.0.2.1", now + wait - 0.1))
            self.assertTrue(found.admit("192.0.2.1", now + wait))
        found.succeeded("192.0.2.1", 900.0)
        found.failed("192.0.2.1", 900.0)
        self.assertTrue(found.admit("192.0.2.1", 900.0))
        for _ in range(200):
            found.failed("192.0.2.3", 1000.0)
        found.failed("192.0.2.3", 2000.0)
        self.assertTrue(found.admit("192.0.2.3", 2000.0))

    def test_memory(self) -> None:
        """What is remembered is bounded, and nobody who waits is forgotten."""
        found = throttle(waiting=10_000)
        self.assertTrue(found.admit("198.51.100.1", 0.0))
        for number in range(6000):
            found.failed(f"10.{number >> 8}.{number & 255}.1", 1.0)
        self.assertLessEqual(len(found), 4096)
        found.left("198.51.100.1", 2.0)
        self.assertEqual(found.waiting, 0)
