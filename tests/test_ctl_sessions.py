"""`stellarctl sessions` and `stellarctl revoke`: who sits at the consoles, and how they are asked to leave."""

from __future__ import annotations

import json
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.ctl.arguments import Usage
from stellarstack.ctl.control import Refused
from stellarstack.ctl.sessions import rows_of, span, table
from tests.test_ctl import CtlCase

NOW = 1_800_000_000.0
ALICE = {
    "id": "seat_2", "serverId": "srv_b", "userId": "u_1", "username": "alice", "via": "websocket", "peer": "192.0.2.7",
    "userAgent": "Firefox\x1b[2J", "since": NOW - 4000, "canWrite": True, "lastTyped": NOW - 5, "expiresAt": NOW + 130,
}  # fmt: skip
BOB = {**ALICE, "id": "seat_1", "userId": "bob\x1b[2J", "username": None, "via": "ssh", "since": NOW - 90000,
       "canWrite": False, "lastTyped": None}  # fmt: skip
CAROL = {**ALICE, "id": "seat_3", "serverId": "srv_a", "username": "u_1"}


class TestSessions(SynchronousTestCase):
    """How they are shown."""

    def test_table(self) -> None:
        """One line a session with what an operator wants to know; nothing in it reaches the terminal as a command."""
        lines = table(rows_of({"sessions": [ALICE, BOB, CAROL, "?"]}, None), NOW).splitlines()
        cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
        heads = ["SERVER", "USER", "VIA", "FROM", "OPEN", "TYPES", "LAST TYPED", "TOKEN ENDS", "ID"]
        self.assertEqual(cells[0], heads)
        self.assertEqual(
            cells[1:],
            [
                ["srv_a", "u_1", "websocket", "192.0.2.7", "1 h 6 min", "yes", "5 s ago", "in 2 min", "seat_3"],
                ["srv_b", "bob [2J", "ssh", "192.0.2.7", "1 d 1 h", "no", "-", "in 2 min", "seat_1"],
                ["srv_b", "u_1 (alice)", "websocket", "192.0.2.7", "1 h 6 min", "yes", "5 s ago", "in 2 min", "seat_2"],
            ],
        )

    def test_of_one_server(self) -> None:
        """Those of one server, oldest first; an answer of another shape has none."""
        found = rows_of({"sessions": [ALICE, BOB, CAROL]}, "srv_b")
        self.assertEqual([row["id"] for row in found], ["seat_1", "seat_2"])
        answers: tuple[Any, ...] = ([], {}, {"sessions": 3})
        self.assertEqual([rows_of(answer, None) for answer in answers], [[], [], []])

    def test_strange_row(self) -> None:
        """What a daemon of another version leaves out is a dash."""
        shown = table([{"since": True, "lastTyped": "x"}], NOW).splitlines()[1]
        self.assertEqual(shown.split(), [*["-"] * 5, "no", *["-"] * 3])

    def test_span(self) -> None:
        """Times as people say them."""
        rows = {-3: "0 s", 59.9: "59 s", 60: "1 min", 3599: "59 min", 3600: "1 h 0 min", 86400: "1 d 0 h"}
        self.assertEqual({seconds: span(seconds) for seconds in rows}, rows)


class TestWords(CtlCase):
    """The command line."""

    def test_sessions(self) -> None:
        """Asked of the control socket, for people and for programs."""
        row = {**ALICE, "since": time.time() - 60}
        daemon = self.daemon({"GET /v1/sessions": (200, {"sessions": [row, CAROL]})})
        self.assertEqual(self.ctl("sessions", "srv_b"), 0)
        self.assertEqual(len(self.out.getvalue().splitlines()), 2)
        self.out.truncate(self.out.seek(0))
        self.assertEqual(self.ctl("sessions", "--json"), 0)
        self.assertEqual(json.loads(self.out.getvalue()), [CAROL, row])
        self.assertEqual([asked for asked, _ in daemon.asked], ["GET /v1/sessions"] * 2)

    def test_revoke(self) -> None:
        """`console.revoke` with what was named; nothing named is wrong usage and asks nothing."""
        asked = self.command({"result": {"closed": 3}}, "revoke", "--user", "u_1", "--server", "srv_b")
        self.assertEqual((asked["type"], asked["payload"]), ("console.revoke", {"userId": "u_1", "serverId": "srv_b"}))
        self.assertEqual(self.out.getvalue().split(), ["closed", "3"])
        asked = self.command({"result": {"closed": 0}}, "revoke", "--jti", "j")
        self.assertEqual(asked["payload"], {"jti": "j"})
        daemon = self.daemon({})
        self.assertRaises(Usage, self.ctl, "revoke")
        self.assertEqual(daemon.asked, [])

    def test_older_daemon(self) -> None:
        """A daemon without the list refuses in one line."""
        self.daemon({"GET /v1/sessions": (404, {"error": {"code": "not_found", "message": "no such thing"}})})
        self.assertRaises(Refused, self.ctl, "sessions")
