"""What goes in and what is taken out by hand: copying, pasting, Ctrl-C."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.test_web_console import TALKATIVE, WebConsoleCase

PASTE = """text => { const what = new DataTransfer(); what.setData("text/plain", text);
  document.getElementById("line-text").dispatchEvent(
    new ClipboardEvent("paste", {clipboardData: what, bubbles: true, cancelable: true})); }"""


class TypingTests(WebConsoleCase):
    """One server that answers each line."""

    def opened(self) -> Page:
        self.node.create("srv_hand", TALKATIVE)
        page = self.page(permissions=["clipboard-read", "clipboard-write"])
        self.visit(page, f"http://127.0.0.1:{self.node.port}/#token={self.node.token('srv_hand')}")
        self.shown(page, "Done")
        return page

    def select(self, page: Page, text: str) -> None:
        """Selects the row with `text` by three clicks."""
        box = page.locator("#terminal .xterm-rows > div", has_text=text).last.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2, click_count=3)

    def copied(self, page: Page) -> str:
        found: str = page.evaluate("navigator.clipboard.readText()")
        return found.strip("\n")

    def test_ctrl_c(self) -> None:
        """Raw mode: with a selection Ctrl-C copies clean text and the program runs on; without one it interrupts."""
        page = self.opened()
        long = "x" * 300  # wraps: three rows that are one line
        self.say(page, long)
        self.shown(page, "you said xxx")
        page.check("#mode-raw", force=True)
        page.locator("#terminal textarea").focus()
        page.keyboard.type("hang\r")
        self.shown(page, "hang")
        self.select(page, "you said xxx")
        page.keyboard.press("Control+c")
        expect(page.locator("#notice")).to_have_text("Copied.")
        self.assertEqual(self.copied(page), f"you said {long}")
        page.keyboard.press("Control+c")
        self.shown(page, "interrupted")
        self.assertEqual(self.complaints, [])

    def test_several_lines_are_asked_about(self) -> None:
        """Line mode: several lines are shown first and not sent until somebody says so; a line too long is not sent."""
        page = self.opened()
        page.evaluate(PASTE, "one\ntwo\r\nthree\n")
        expect(page.locator("#confirm-title")).to_have_text("Send 3 lines?")
        page.click("#confirm-no")
        page.evaluate(PASTE, f"one\n{'y' * 4001}")
        expect(page.locator("#notice")).to_contain_text("at most 4000 bytes")
        expect(page.locator("#confirm")).to_be_hidden()
        self.say(page, "asked")
        shown = self.shown(page, "you said asked")
        self.assertFalse([row for row in shown if "one" in row.split()], shown)
        page.evaluate(PASTE, "one\ntwo\r\nthree\n")
        page.click("#confirm-yes")
        for word in ("one", "two", "three"):
            self.shown(page, f"you said {word}")
        self.assertEqual(self.complaints, [])
