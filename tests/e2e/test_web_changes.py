"""The page while things change: power actions that meet other errors, another server's output, runs that end."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.test_web_console import TALKATIVE, WebConsoleCase, rows

EVERYTHING = [
    "console.read", "console.write", "stats.read", "control.start", "control.stop", "control.restart", "control.kill",
]  # fmt: skip


class Between:
    """Stands between page and daemon: holds frames of the page back, and says what a daemon might say."""

    def __init__(self, page: Page) -> None:
        self.held: dict[str, list[dict[str, Any]]] = {}
        self._socket: WebSocketRoute | None = None
        page.route_web_socket("**/console?*", self._connect)

    def hold(self, kind: str) -> list[dict[str, Any]]:
        """From now on frames of this type do not reach the daemon; answers the list that they are added to."""
        return self.held.setdefault(kind, [])

    def say(self, **message: Any) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps(message))

    def _connect(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        daemon = socket.connect_to_server()

        def sent(frame: str | bytes) -> None:
            message = json.loads(frame) if isinstance(frame, str) else {"type": "keys"}
            if message["type"] in self.held:
                self.held[message["type"]].append(message)
            else:
                daemon.send(frame)

        socket.on_message(sent)


class PowerTests(WebConsoleCase):
    """What is said of a power action is about that action."""

    def opened(self) -> tuple[Page, Between]:
        self.node.create("srv_power", TALKATIVE)
        page = self.page()
        between = Between(page)
        self.visit(page, f"http://127.0.0.1:{self.node.port}/#token={self.node.token('srv_power', EVERYTHING)}")
        self.shown(page, "Done")
        return page, between

    def test_error_of_something_else(self) -> None:
        """While a stop is under way an error of something else is told as what it is, and the waiting goes on."""
        page, between = self.opened()
        power = between.hold("power")
        page.click("#power-stop")
        self.until(page, lambda: power, "the order")
        between.say(type="error", code="rate_limited", message="slower, please")
        expect(page.locator("#notice")).to_contain_text("Slower, please")
        expect(page.locator("#power-restart")).to_be_disabled()
        between.say(type="error", code="busy", message="enough are under way", action="stop")
        expect(page.locator("#notice")).to_have_text("Not done: enough are under way")
        expect(page.locator("#power-restart")).to_be_enabled()

    def test_busy_while_history_is_asked_for(self) -> None:
        """A power action refused while older output is on its way: people are told."""
        page, between = self.opened()
        history, power = between.hold("history"), between.hold("power")
        page.click("#open-search")
        page.fill("#search-text", "Done")
        page.click("#search-all")
        page.click("#search-list button >> nth=0")
        self.until(page, lambda: history, "a page of history to be asked for")
        page.click("#power-stop")
        self.until(page, lambda: power, "the order")
        between.say(type="error", code="busy", message="enough are under way", action="stop")
        expect(page.locator("#notice")).to_have_text("Not done: enough are under way")


class AnotherOutputTests(WebConsoleCase):
    """Nothing of one server's output stands beside another's."""

    def looked_back(self, page: Page, text: str) -> None:
        """Finds `text` in all that is kept, and shows the first place in older output."""
        if not page.locator("#search-bar").is_visible():
            page.click("#open-search")
        page.fill("#search-text", text)
        page.click("#search-all")
        page.click("#search-list button >> nth=0")
        expect(page.locator("#past")).to_be_visible()
        self.shown(page, text, "#past > div:not(.behind)")

    def forgotten(self, page: Page) -> None:
        expect(page.locator("#past")).to_be_hidden()
        expect(page.locator("#past-bar")).to_be_hidden()
        expect(page.locator("#search-results")).to_be_hidden()
        expect(page.locator("#search-list li")).to_have_count(0)

    def test_another_server(self) -> None:
        """A token for another server in the same page: older output and what was found go with the live output."""
        for server in ("srv_one", "srv_two"):
            self.node.create(server, TALKATIVE)
        page = self.open("srv_one")
        self.shown(page, "Done")
        self.say(page, "first words")
        self.shown(page, "you said first words")
        self.looked_back(page, "you said first")
        page.evaluate("token => { location.hash = 'token=' + token; }", self.node.token("srv_two"))
        expect(page.locator("#server-name")).to_have_text("srv_two")
        self.forgotten(page)
        self.say(page, "second words")
        self.shown(page, "you said second words")
        self.looked_back(page, "you said second")
        shown = "\n".join(rows(page, "#past > div:not(.behind)"))
        self.assertEqual((shown.count("first words"), shown.count("── started")), (0, 1), shown)
        self.assertEqual(self.complaints, [])

    def test_made_afresh(self) -> None:
        """A server deleted and made anew under the same name: so, too."""
        self.node.create("srv_again", TALKATIVE)
        page = self.open("srv_again")
        self.shown(page, "Done")
        self.say(page, "seq 300")
        self.shown(page, "line 300")
        self.looked_back(page, "line 299")
        self.node.run("server.delete", serverId="srv_again")
        expect(page.locator("#token-panel")).to_be_visible()
        self.node.create("srv_again", TALKATIVE)
        page.fill("#token-field", self.node.token("srv_again"))
        page.click("#token-use")
        expect(page.locator("#connection")).to_have_attribute("data-state", "open")
        self.forgotten(page)
        self.say(page, "seq 5")
        self.shown(page, "line 5")
        self.looked_back(page, "line 5")
        self.assertNotIn("line 6", rows(page, "#past > div:not(.behind)"))


class RunTests(WebConsoleCase):
    """Beginnings and ends of runs, as they happen."""

    def test_live_as_after_a_reload(self) -> None:
        """A crash is told live with its exit code and time, in the words that stand there after a reload."""
        self.node.create("srv_crash", TALKATIVE)
        page = self.open("srv_crash", token=self.node.token("srv_crash", EVERYTHING))
        self.shown(page, "Done")
        self.say(page, "crash")
        self.shown(page, "── crashed, exit code 3, ")
        expect(page.locator("#notice")).to_contain_text("has crashed")
        expect(page.locator("#line-text")).to_have_attribute("placeholder", "The server is not running")
        page.click("#power-start")
        expect(page.locator("#server-status")).to_have_attribute("data-status", "running")
        self.until(page, lambda: len(self.runs(page)) == 3, "the second start")
        live = self.runs(page)
        self.assertEqual([run.split(", ")[0] for run in live], ["── started", "── crashed", "── started"])
        page.close()
        again = self.open("srv_crash")
        self.until(again, lambda: len(self.runs(again)) == 3, "the runs")
        self.assertEqual(self.runs(again)[:2], live[:2])

    def runs(self, page: Page) -> list[str]:
        return [row for row in rows(page) if row.startswith("── ")]
