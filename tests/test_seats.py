"""Who sits at the consoles: bounds, renewals, revoking, and the list of them (W11, W12, W13, P03)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import ConsoleConfig
from stellarstack.console.seats import Seating
from stellarstack.core.claims import Claims
from stellarstack.viewing import Seat

CLAIMS = Claims("usr_1", "srv_1", frozenset({"console.read", "console.write"}), 1000.0, 1300.0, "jti_1", "Ada")
SEAT = Seat(CLAIMS, "websocket", "192.0.2.7", "tests/1", 1001.0)


class Session:
    """Meets SeatedSession; `closed` tells with which code."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)


def seat(user: str = "usr_1", server: str = "srv_1", jti: str = "jti_1", **more: Any) -> Seat:
    claims = replace(CLAIMS, user_id=user, server_id=server, jti=jti)
    return replace(SEAT, claims=claims, **more)


class SeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wall = 1100.0
        config = ConsoleConfig(connections=4, viewers_per_server=3, viewers_per_user=2)
        self.seats = Seating(config=config, now=lambda: self.wall)

    def sit(self, *how: str, **more: Any) -> Session | None:
        session = Session()
        return session if self.seats.take(session, seat(*how, **more)) else None

    def test_bounds(self) -> None:
        """W13, P03: of a user, of a server, of the node; over all doors, and each place is given back."""
        first = self.sit()
        assert first is not None
        self.assertIsNotNone(self.sit(via="ssh"))
        self.assertIsNone(self.sit("usr_1", "srv_2"))
        self.assertIsNotNone(self.sit("usr_2"))
        self.assertIsNone(self.sit("usr_3"))
        self.assertIsNotNone(self.sit("usr_3", "srv_2"))
        self.assertIsNone(self.sit("usr_4", "srv_2"))
        self.assertEqual(len(self.seats), 4)
        self.seats.leave(first)
        self.assertIsNotNone(self.sit("usr_1", "srv_2"))

    def test_leaving(self) -> None:
        """Who has no seat gives none back, and twice is once."""
        first, stranger = self.sit(), Session()
        assert first is not None
        self.sit()
        for session in (stranger, first, first, stranger):
            self.seats.leave(session)
            self.seats.typed(stranger)
        self.assertEqual(len(self.seats), 1)
        self.assertIsNotNone(self.sit())
        self.assertIsNone(self.sit())

    def test_renewal(self) -> None:
        """W11: it takes no second place, and from then on the new token is the one that can be revoked."""
        first = self.sit()
        assert first is not None and self.sit() is not None
        self.assertTrue(self.seats.take(first, seat(jti="jti_2", since=1200.0)))
        self.assertEqual(len(self.seats), 2)
        self.assertEqual([row["since"] for row in self.seats.rows()], [1001.0, 1001.0])
        self.assertEqual((self.seats.revoke(jti="jti_2"), first.closed), (1, [4403]))
        for other in (seat("usr_2"), seat(server="srv_2")):
            self.assertRaises(ValueError, self.seats.take, first, other)

    def test_revoke(self) -> None:
        """W11, W12: those that match all that is given are closed with 4403, once; nothing given: nobody."""
        first, second, other = self.sit(), self.sit("usr_1", "srv_2"), self.sit("usr_2", "srv_1")
        assert first is not None and second is not None and other is not None
        self.assertEqual(self.seats.revoke(), 0)
        self.assertEqual(self.seats.revoke(user_id="usr_2", server_id="srv_2"), 0)
        self.assertEqual(self.seats.revoke(user_id="usr_1", server_id="srv_2"), 1)
        self.assertEqual(self.seats.revoke(user_id="usr_1"), 1)
        self.assertEqual((first.closed, second.closed, other.closed), ([4403], [4403], []))
        self.assertEqual([row["userId"] for row in self.seats.rows()], ["usr_2"])
        self.assertEqual(self.seats.revoke(server_id="srv_1"), 1)
        self.assertEqual(len(self.seats), 3)  # until their connections are gone

    def test_rows(self) -> None:
        """What `stellarctl sessions` lists: never a token, nor its id."""
        session = self.sit()
        assert session is not None
        row = {
            "id": 1, "serverId": "srv_1", "userId": "usr_1", "username": "Ada", "via": "websocket", "peer": "192.0.2.7",
            "userAgent": "tests/1", "since": 1001.0, "canWrite": True, "lastTyped": None, "expiresAt": 1300.0,
        }  # fmt: skip
        self.assertEqual(self.seats.rows(), [row])
        self.seats.typed(session)
        self.seats.take(session, replace(SEAT, claims=replace(CLAIMS, permissions=frozenset({"console.read"}))))
        self.assertEqual(self.seats.rows(), [{**row, "lastTyped": 1100.0, "canWrite": False}])
        self.seats.leave(session)
        self.sit()
        self.assertEqual([one["id"] for one in self.seats.rows()], [2])
