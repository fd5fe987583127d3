"""The web console for everybody: by keyboard and screen reader, on a phone, and in a panel's frame."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import axe_playwright_python
from playwright.sync_api import FrameLocator, Page, expect

from tests.e2e.browser import PHONE, BrowserCase
from tests.integration.node_process import NodeProcess

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
GRAVE = ("serious", "critical")


class AccessibilityTests(BrowserCase):
    """What axe-core finds, and what a keyboard reaches."""

    def judged(self, page: Page, name: str) -> None:
        """No serious violation on the page as it is now."""
        self.keep(page, name)
        page.evaluate(AXE.read_text())
        found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run(document)).violations")
        told = [
            f"{one['id']}: {one['help']} {[node['target'] for node in one['nodes']]}"
            for one in found
            if one["impact"] in GRAVE
        ]
        self.assertEqual(told, [], name)

    def test_axe(self) -> None:
        """axe-core finds no serious violation: light and dark, with search, settings, a question."""
        self.node.create("srv_axe")
        everything = ["console.read", "console.write", "stats.read", "control.start", "control.stop", "control.kill"]
        for scheme in ("dark", "light"):
            page = self.open("srv_axe", token=self.node.token("srv_axe", everything), color_scheme=scheme)
            expect(page.locator("#terminal .xterm-rows > div", has_text="Done").first).to_be_visible()
            self.judged(page, f"axe-{scheme}")
            page.click("#open-search")
            self.judged(page, f"axe-{scheme}-search")
            page.click("#search-close")
            page.click("#open-settings")
            self.judged(page, f"axe-{scheme}-settings")
            page.click("#settings-close")
            page.click("#power-kill")
            expect(page.locator("#confirm")).to_be_visible()
            self.judged(page, f"axe-{scheme}-confirm")
            page.click("#confirm-no")
            page.context.close()
        self.assertEqual(self.complaints, [])

    def test_axe_without_a_token(self) -> None:
        """The page that asks for a token is as good."""
        page = self.page()
        self.visit(page, f"http://127.0.0.1:{self.node.port}/")
        expect(page.locator("#token-panel")).to_be_visible()
        self.judged(page, "axe-no-token")

    def test_keyboard(self) -> None:
        """By the keyboard alone: every control is reached and seen to be, none holds the focus."""
        self.node.create("srv_keys")
        page = self.open("srv_keys")
        expect(page.locator("#terminal .xterm-rows > div", has_text="Done").first).to_be_visible()
        page.focus("#server-name") if page.locator("#server-name[tabindex]").count() else page.focus("#open-search")
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        for wanted in ("open-download", "toggle-figures", "open-settings", "mode-line", "line-text", "line-send"):
            self.assertIn(wanted, reached)
        page.focus("#line-text")
        page.keyboard.type("by keys")
        page.keyboard.press("Enter")
        expect(page.locator("#terminal .xterm-rows > div", has_text="you said by keys").first).to_be_visible()


class PhoneTests(BrowserCase):
    """390 px wide, by touch."""

    def test_phone(self) -> None:
        """Nothing lies beyond the edge, controls are large enough for a thumb, a command is answered."""
        self.node.create("srv_phone")
        page = self.open("srv_phone", size=PHONE, has_touch=True, is_mobile=True)
        expect(page.locator("#terminal .xterm-rows > div", has_text="Done").first).to_be_visible()
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), PHONE["width"])
        for wanted in ("#open-search", "#open-download", "#open-settings", "#line-text", "#line-send"):
            box = page.locator(wanted).bounding_box()
            assert box is not None
            self.assertLessEqual(box["x"] + box["width"], PHONE["width"])
            self.assertGreaterEqual(min(box["height"], box["width"]), 44, wanted)
        page.tap("#line-text")
        page.fill("#line-text", "hello")
        page.tap("#line-send")
        expect(page.locator("#terminal .xterm-rows > div", has_text="you said hello").first).to_be_visible()
        page.locator("#mode-raw").check(force=True)
        expect(page.locator("#keys [data-key=ctrl-c]")).to_be_visible()
        self.keep(page, "phone")


class _Panel(ThreadingHTTPServer):
    """A panel's web server: a page with the console in a frame, and a fresh token for whoever asks."""

    page = ""
    node: NodeProcess
    given = 0


class _Answers(BaseHTTPRequestHandler):
    server: _Panel

    def do_GET(self) -> None:
        text = self.server.page
        if self.path == "/token":
            self.server.given += 1
            text = json.dumps({"token": self.server.node.token("srv_frame")})
        self.send_response(200 if self.path in ("/", "/token") else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


PANEL_PAGE = """<!doctype html><title>Panel</title>
<iframe id="console" title="Console" src="{node}/#token={token}" width="1000" height="600"></iframe>
<script>
const frame = document.getElementById("console");
addEventListener("message", async (event) => {{
  if (event.source !== frame.contentWindow || event.data?.type !== "stellarstack.token.wanted") return;
  const answer = await (await fetch("/token")).json();
  frame.contentWindow.postMessage({{type: "stellarstack.token", token: answer.token}}, "{node}");
}});
</script>
"""


class FrameTests(BrowserCase):
    """In a panel's iframe."""

    def prepare(self, node: NodeProcess) -> None:
        self.panel = _Panel(("127.0.0.1", 0), _Answers)
        self.panel.node = node
        Thread(target=self.panel.serve_forever, daemon=True).start()
        self.addCleanup(self.panel.server_close)
        self.addCleanup(self.panel.shutdown)
        self.address = f"http://127.0.0.1:{self.panel.server_port}"
        text = node.config.read_text()
        node.config.write_text(text.replace("[server]\n", f'[server]\nframe_ancestors = ["{self.address}"]\n'))

    def framed(self, lifetime: float) -> tuple[Page, FrameLocator]:
        token = self.node.token("srv_frame", lifetime=lifetime)
        self.panel.page = PANEL_PAGE.format(node=f"http://127.0.0.1:{self.node.port}", token=token)
        page = self.page()
        self.visit(page, self.address)
        return page, page.frame_locator("#console")

    def test_renewed(self) -> None:
        """The panel is asked for a token before the first one ends, and the console goes on over that end."""
        self.node.create("srv_frame")
        page, frame = self.framed(lifetime=6)
        ends = time.monotonic() + 7
        expect(frame.locator("#terminal .xterm-rows > div", has_text="Done").first).to_be_visible()
        while time.monotonic() < ends:
            page.wait_for_timeout(200)
        self.assertGreaterEqual(self.panel.given, 1)
        frame.locator("#line-text").fill("still here")
        frame.locator("#line-text").press("Enter")
        expect(frame.locator("#terminal .xterm-rows > div", has_text="you said still here").first).to_be_visible()
        expect(frame.locator("#connection")).to_have_attribute("data-state", "open")
        self.keep(page, "frame")

    def test_strangers_frame(self) -> None:
        """A page of another origin cannot hold the console."""
        self.node.create("srv_frame")
        self.panel.page = PANEL_PAGE.format(
            node=f"http://127.0.0.1:{self.node.port}", token=self.node.token("srv_frame")
        )
        page = self.page()
        self.visit(page, self.address.replace("127.0.0.1", "localhost"))
        page.wait_for_timeout(1000)
        self.assertEqual(page.frame_locator("#console").locator("#terminal").count(), 0)
        self.assertTrue(any("frame-ancestors" in said for said in self.complaints), self.complaints)
