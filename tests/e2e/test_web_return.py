"""The page after an absence: asleep, away, or shown a server that has only the name of the one before."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.test_web_console import TALKATIVE, WebConsoleCase, rows

SERVER = "srv_asleep"


class Scripted:
    """A daemon that says what a test tells it: one scene for each connection, in order."""

    def __init__(self, page: Page, *scenes: Any) -> None:
        self.addresses: list[str] = []
        self.sockets: list[WebSocketRoute] = []
        self._scenes = list(scenes)
        page.route_web_socket("**/console?*", self._connect)

    def _connect(self, socket: WebSocketRoute) -> None:
        self.addresses.append(socket.url)
        self.sockets.append(socket)
        scene = self._scenes.pop(0)
        socket.on_message(lambda frame: scene(socket) if '"auth"' in str(frame) else None)


def ready(socket: WebSocketRoute, start: int, text: str, *, gap: tuple[int, int] | None = None) -> None:
    """A session that begins at byte `start`, with the gap that comes before."""
    told = {"type": "ready", "serverId": SERVER, "status": "running", "canWrite": True, "from": start,
            "end": start + len(text), "expiresAt": time.time() + 300}  # fmt: skip
    socket.send(json.dumps(told))
    if gap is not None:
        socket.send(json.dumps({"type": "gap", "from": gap[0], "to": gap[1]}))
    socket.send(text.encode())


class AbsenceTests(WebConsoleCase):
    """A laptop that slept longer than its token lives."""

    def test_asleep(self) -> None:
        """It comes back at the byte where it was, by a fresh link; what is no longer kept is one gap."""
        page = self.page()
        daemon = Scripted(
            page,
            lambda socket: ready(socket, 0, "before\r\n"),
            lambda socket: socket.close(code=4410, reason="token_expired"),
            lambda socket: ready(socket, 5000, "after\r\n", gap=(8, 5000)),
        )
        self.visit(page, f"http://127.0.0.1:{self.node.port}/#token={self.token()}")
        self.shown(page, "before")
        daemon.sockets[0].close(code=1001)
        expect(page.locator("#token-why")).to_contain_text("run out")
        page.fill("#token-field", self.token())
        page.click("#token-use")
        self.shown(page, "after")
        self.assertEqual([re.search(r"since=(\d+)", one) is not None for one in daemon.addresses], [False, True, True])
        self.assertIn("since=8", daemon.addresses[2])
        told = [row for row in rows(page) if row]
        self.assertEqual((told[0], told[-1], len([row for row in told if "gap" in row])), ("before", "after", 1), told)
        self.assertIn("4.88 KB not shown", told[1])

    def test_deleted_and_made_anew(self) -> None:
        """A server that was deleted is not resumed, however much one of its name has said since."""
        page = self.page()
        daemon = Scripted(
            page,
            lambda socket: ready(socket, 0, "the old one\r\n"),
            lambda socket: ready(socket, 40, "the new one\r\n"),
        )
        self.visit(page, f"http://127.0.0.1:{self.node.port}/#token={self.token()}")
        self.shown(page, "the old one")
        daemon.sockets[0].close(code=4404)
        expect(page.locator("#token-panel")).to_be_visible()
        page.fill("#token-field", self.token())
        page.click("#token-use")
        self.shown(page, "the new one")
        self.assertNotIn("since=", daemon.addresses[1])
        self.assertEqual([row for row in rows(page) if row], ["the new one"])

    def token(self) -> str:
        return self.node.token(SERVER)


class OtherServerTests(WebConsoleCase):
    """One page, one server after another."""

    def test_nothing_of_the_one_before(self) -> None:
        """Figures, earlier commands, a half-written command and a question stay with their server."""
        everything = ["console.read", "console.write", "stats.read", "control.kill"]
        self.node.create("srv_first", TALKATIVE)
        self.node.create("srv_second", TALKATIVE)
        page = self.open("srv_first", token=self.node.token("srv_first", everything))
        self.shown(page, "Done")
        self.say(page, "only for the first")
        trace = page.locator("#figure-cpu path.trace").first
        points = r"L.*L.*L"  # four seconds of a curve
        expect(trace).to_have_attribute("d", re.compile(points))
        page.fill("#line-text", "half of a comm")
        page.click("#power-kill")
        expect(page.locator("#confirm-title")).to_have_text("Kill srv_first?")
        before = len(trace.get_attribute("d") or "")
        # in one step, so that no figure of the second can have come between
        after = page.evaluate(
            """token => new Promise(done => { addEventListener("hashchange", () => setTimeout(() => done(
                 document.querySelector("#figure-cpu path.trace").getAttribute("d"))));
                 location.hash = "token=" + token;
               })""",
            self.node.token("srv_second", everything),
        )
        self.assertIsNone(after, before)
        expect(page.locator("#confirm")).to_be_hidden()
        expect(page.locator("#server-name")).to_have_text("srv_second")
        expect(page.locator("#connection")).to_have_attribute("data-state", "open")
        expect(page.locator("#line-text")).to_have_value("")
        page.press("#line-text", "ArrowUp")
        expect(page.locator("#line-text")).to_have_value("")
        expect(page.locator("#server-status")).to_have_attribute("data-status", "running")
        self.assertEqual(self.complaints, [])
