"""Connections that have shown no token, or are closed and not gone: bounded, whoever they are (W13, K29)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.api.websocket_lobby import LEAVING, Lobby


class Caller:
    def __init__(self, lobby: Lobby) -> None:
        self.lobby = lobby
        self.closed: int | None = None
        self.let_off = False

    def close(self, code: int, reason: str) -> None:
        self.closed = code
        self.lobby.leaves(self)

    def let_go(self) -> None:
        self.let_off = True


class LobbyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lobby = Lobby(16)

    def come(self, peer: str, count: int = 1) -> list[Caller]:
        callers = [Caller(self.lobby) for _ in range(count)]
        for caller in callers:
            self.lobby.enter(caller, peer)
        return callers

    def test_of_one_address(self) -> None:
        """W13: one host crowds out nobody but itself, and of its own the oldest."""
        (good,) = self.come("192.0.2.1")
        crowd = self.come("192.0.2.2", 100)
        self.assertEqual([caller.closed for caller in crowd], [1013] * 98 + [None] * 2)
        self.assertEqual((good.closed, len(self.lobby)), (None, 3))

    def test_of_many_addresses(self) -> None:
        """W13: all in all there are as many as may wait, and the oldest gives way."""
        callers = [self.come(f"192.0.2.{number}")[0] for number in range(20)]
        self.assertEqual([caller.closed for caller in callers], [1013] * 4 + [None] * 16)

    def test_whose_share_it_is(self) -> None:
        """IPv6 counts by networks of 64 bits, a mapped address as IPv4; loopback, where proxies sit, has no share."""
        for peers, let_in in (
            (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3%eth0"], 2),
            (["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"], 3),
            (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], 2),
            (["127.0.0.1"] * 8 + ["::1"] * 4 + ["::ffff:127.0.0.9"] * 2 + [""] * 2, 16),
        ):
            self.setUp()
            callers = [self.come(peer)[0] for peer in peers]
            self.assertEqual(sum(caller.closed is None for caller in callers), let_in, peers)

    def test_places_are_given_back(self) -> None:
        """Who is admitted, closed or gone takes no place, however often it is told."""
        first, second, third = (self.come("192.0.2.1")[0] for _ in range(3))
        self.assertEqual(first.closed, 1013)
        for _ in range(2):
            self.lobby.admitted(second)
            self.lobby.gone(third)
            self.lobby.gone(first)
        self.assertEqual(len(self.lobby), 0)
        self.assertEqual([caller.closed for caller in self.come("192.0.2.1", 2)], [None, None])

    def test_leaving(self) -> None:
        """K29: of those that are closed and do not let go, the oldest are let go."""
        callers = self.come("127.0.0.1", 16 + LEAVING + 3)
        self.assertEqual([caller.let_off for caller in callers], [True] * 3 + [False] * (16 + LEAVING))
        self.lobby.leaves(callers[5])  # again
        self.lobby.gone(callers[4])
        callers[-1].close(4401, "")
        self.assertEqual(sum(caller.let_off for caller in callers), 3)
