"""A headless Chromium for tests, and what a test keeps of it: screenshots in tests/artefacts/ (git-ignored)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import NodeProcess

ARTEFACTS = Path(__file__).resolve().parents[1] / "artefacts"
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
PATIENCE = 20_000  # milliseconds that the browser waits for what is to come; a deadline, not a timing
expect.set_options(timeout=PATIENCE)


class BrowserCase(SynchronousTestCase):
    """One daemon with its own Redis, one browser. Whatever the page says to its log that is an error fails the test."""

    def setUp(self) -> None:
        if CHROMIUM is None:
            raise self.failureException("no chromium: apt-get install chromium (script/bootstrap test does)")
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.prepare(self.node)
        self.node.start()
        self._driver = sync_playwright().start()
        self.addCleanup(self._driver.stop)
        self.browser = self._driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        self.addCleanup(self.browser.close)
        self.complaints: list[str] = []
        self._unbooted: list[Page] = []

    def prepare(self, node: NodeProcess) -> None:
        """What is to be done before the daemon starts, such as a word in its daemon.toml."""

    def page(self, *, size: dict[str, int] | None = None, **more: Any) -> Page:
        """An empty page of a person who was never here."""
        viewport: Any = size or WIDE
        context = self.browser.new_context(viewport=viewport, **more)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("requestfailed", lambda request: self._given_up(page, request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._heard(said.text) if said.type == "error" else None)
        return page

    def _heard(self, text: str) -> None:
        """Chromium on the Docker host gives requests up whenever a bridge appears; the page loads again by itself."""
        if "ERR_NETWORK_CHANGED" not in text:
            self.complaints.append(text)

    def open(self, server_id: str, *, token: str = "", size: dict[str, int] | None = None, **more: Any) -> Page:
        """The console of a server, by a link as a panel would make it."""
        page = self.page(size=size, **more)
        self.visit(page, f"http://127.0.0.1:{self.node.port}/#token={token or self.node.token(server_id)}")
        return page

    def visit(self, page: Page, address: str) -> None:
        """Loads the page, again where its first script did not arrive: it has nothing yet that would do so."""
        page.goto(address)
        while page in self._unbooted:
            self._unbooted.remove(page)
            page.reload()

    def _given_up(self, page: Page, address: str) -> None:
        if address.endswith("/boot.js"):
            self._unbooted.append(page)

    def keep(self, page: Page, name: str) -> None:
        """A screenshot for people."""
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=str(ARTEFACTS / f"{name}.png"))
