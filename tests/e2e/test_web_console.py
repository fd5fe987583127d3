"""The web console as people use it: a real Chromium, a real daemon, real containers."""

from __future__ import annotations

import re
import time
from typing import Any

from playwright.sync_api import Page, expect

from tests.e2e.browser import BrowserCase

COUNTING = """
echo Done
n=0
while :; do n=$((n+1)); echo "tick $n"; sleep 0.5; done
"""
FAR_BACK = 96_000  # the live terminal holds 20 000 of 120 000 lines
# Prints what it is told to, and how large its terminal is, at once.
TALKATIVE = """
echo loading; echo Done
while read -r line; do
  case "$line" in
    stop) echo bye; exit 0;;
    crash) exit 3;;
    flood) timeout 6 yes a line of a flood; echo THE END;;
    seq*) seq 1 ${line#seq } | sed 's/^/line /';;
    size) stty size;;
    vi) vi /tmp/file; echo left vi;;
    hang) trap 'echo interrupted; trap - INT' INT; sleep 1000;;
    *) echo "you said $line";;
  esac
done
"""


def rows(page: Page, place: str = "#terminal") -> list[str]:
    """What the terminal shows now, row by row."""
    found: list[str] = page.eval_on_selector_all(
        f"{place} .xterm-rows > div", "rows => rows.map(row => row.textContent.replace(/\\u00a0/g, ' ').trimEnd())"
    )
    return found


class WebConsoleCase(BrowserCase):
    """What every test of the page needs."""

    def shown(self, page: Page, text: str, place: str = "#terminal") -> list[str]:
        """Waits until a row of the terminal holds `text`."""
        expect(page.locator(f"{place} .xterm-rows > div", has_text=text).first).to_be_visible()
        return rows(page, place)

    def until(self, page: Page, holds: Any, what: str) -> Any:
        """Waits, while the page lives, until `holds()` is true."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            page.wait_for_timeout(50)
        raise self.failureException(f"waited for {what}; the terminal shows {rows(page)}")

    def say(self, page: Page, line: str) -> None:
        """Types a line into the field and sends it."""
        page.fill("#line-text", line)
        page.press("#line-text", "Enter")


class ConsoleTests(WebConsoleCase):
    """One server, looked at in many ways."""

    def test_talk(self) -> None:
        """Output appears, a typed line is answered, and the token is gone from the address."""
        self.node.create("srv_talk", TALKATIVE)
        page = self.open("srv_talk")
        self.shown(page, "Done")
        expect(page.locator("#server-status")).to_have_attribute("data-status", "running")
        self.assertNotIn("token", page.url)
        self.say(page, "hello there")
        self.shown(page, "you said hello there")
        self.keep(page, "talk")
        page.fill("#line-text", "")
        page.press("#line-text", "ArrowUp")
        expect(page.locator("#line-text")).to_have_value("hello there")
        self.assertEqual(self.complaints, [])

    def test_size(self) -> None:
        """The program in the container is told the terminal's new size when the window changes."""
        self.node.create("srv_size", TALKATIVE)
        page = self.open("srv_size")
        self.shown(page, "Done")

        def told() -> list[tuple[int, int]]:
            found = [re.fullmatch(r"(\d+) (\d+)", row) for row in rows(page)]
            return [(int(match[1]), int(match[2])) for match in found if match]

        def as_shown() -> bool:
            """Asked again until true: the engine hears of a size in a request of its own, which a line may overtake."""
            self.say(page, "size")
            return bool(told()) and told()[-1][0] == len(rows(page))

        self.until(page, as_shown, "the program to be told the first size")
        first = told()[-1]
        page.set_viewport_size({"width": 800, "height": 500})
        self.until(page, lambda: len(rows(page)) < first[0], "fewer rows")
        self.until(page, as_shown, "the program to be told")
        self.assertLess(told()[-1][1], first[1])

    def test_flood(self) -> None:
        """A flood is told until it is over, then that; the page is usable afterwards."""
        self.node.create("srv_flood", TALKATIVE)
        page = self.open("srv_flood")
        self.shown(page, "Done")
        self.say(page, "flood")
        notice = page.locator("#notice")
        expect(notice).to_contain_text("the server floods its console", timeout=20_000)
        self.keep(page, "flood")
        expect(notice).to_contain_text("the flood is over", timeout=30_000)
        self.shown(page, "the flood is over")
        self.say(page, "hello there")
        self.shown(page, "you said hello there")
        self.assertEqual(self.complaints, [])

    def test_far_back(self) -> None:
        """Over 100 000 lines: back to the very first, page by page and by a jump, and forward to the live end."""
        self.node.create("srv_long", TALKATIVE, resources={"memory": 64, "cpu": 2, "disk": 64, "pids": 32})
        page = self.open("srv_long")
        self.shown(page, "Done")
        self.say(page, "seq 120000")
        self.shown(page, "line 120000")
        page.hover("#terminal")
        seen = self.walked_back(page)
        self.assertEqual(seen, sorted(seen, reverse=True))
        self.keep(page, "far-back")
        page.click("#past-start")
        self.until(page, lambda: "Done" in self.past(page), "the beginning")
        self.assertIn("line 1", self.past(page))
        page.click("#past-live")
        self.shown(page, "line 120000")
        self.assertEqual(self.complaints, [])

    def past(self, page: Page) -> list[str]:
        return rows(page, "#past > div:not(.behind)")

    def walked_back(self, page: Page) -> list[int]:
        """Walks back by the keyboard until line FAR_BACK; the first line number of each view of older output."""
        seen: list[int] = []
        slider = page.locator("#terminal .scrollbar.vertical .slider")
        box = slider.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 3)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, 0, steps=5)
        page.mouse.up()
        page.hover("#terminal")
        expect(page.locator("#older")).to_be_visible()
        page.mouse.wheel(0, -100)
        expect(page.locator("#past")).to_be_visible()
        page.locator("#past > div:not(.behind) textarea").focus()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (seen and seen[-1] < FAR_BACK):
            numbers = [int(row[5:]) for row in self.past(page) if re.fullmatch(r"line \d+", row)]
            if numbers:
                self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))  # no hole, no repeat
                if not seen or numbers[0] != seen[-1]:
                    seen.append(numbers[0])
            page.keyboard.press("PageUp")
        self.assertLess(seen[-1], FAR_BACK, seen[-5:])
        return seen

    def test_graphs(self) -> None:
        """CPU, memory, network and disk have a figure, a line, and a text that tells them."""
        script = "echo Done; while :; do :; done"
        self.node.create("srv_busy", script)
        page = self.open("srv_busy")
        for name in ("cpu", "memory", "network", "disk"):
            drawing = page.locator(f"#figure-{name} svg")
            expect(drawing).not_to_have_attribute("aria-label", re.compile("nothing measured"))
            expect(page.locator(f"#figure-{name} .value")).not_to_have_text("–")
            expect(page.locator(f"#figure-{name} path.trace").first).to_have_attribute("d", re.compile(r"\d"))
        expect(page.locator("#figure-cpu .value")).to_have_text(re.compile(r"^[1-9]"))
        self.keep(page, "graphs")

    def test_full_screen_program(self) -> None:
        """vi in the container: drawn at the terminal's size, anew when that changes, left by its own keys; Ctrl-C."""
        self.node.create("srv_vi", TALKATIVE)
        page = self.open("srv_vi")
        self.shown(page, "Done")
        page.check("#mode-raw", force=True)
        page.click("#terminal")
        page.keyboard.type("vi\r")
        height = len(self.shown(page, "/tmp/file"))
        self.assertEqual(rows(page)[height - 2], "~")
        page.keyboard.type("iwritten in vi")
        self.shown(page, "written in vi")
        self.keep(page, "vi")
        page.set_viewport_size({"width": 900, "height": 520})
        self.until(page, lambda: len(rows(page)) < height, "fewer rows")
        self.until(page, lambda: rows(page)[len(rows(page)) - 2] == "~", "vi to draw anew")
        page.keyboard.press("Escape")
        page.wait_for_timeout(500)  # an Esc alone: vi waits whether it begins a longer key
        page.keyboard.type(":q!\r")
        self.shown(page, "left vi")
        page.keyboard.type("hang\r")
        self.shown(page, "hang")
        page.keyboard.press("Control+c")
        self.shown(page, "interrupted")
        self.assertEqual(self.complaints, [])


class DaemonRestartTests(WebConsoleCase):
    """The page outlives the daemon."""

    def test_no_line_lost_or_repeated(self) -> None:
        """Killed and started again while a game prints: the page goes on by itself, each line there once."""
        self.node.create("srv_tick", COUNTING)
        page = self.open("srv_tick", token=self.node.token("srv_tick", ["console.read", "control.stop"]))
        self.shown(page, "tick 5")
        self.node.kill()
        expect(page.locator("#connection")).not_to_have_attribute("data-state", "open")
        expect(page.locator("#power-stop")).to_be_disabled()
        self.keep(page, "daemon-away")
        page.wait_for_timeout(1500)
        self.node.start()
        expect(page.locator("#connection")).to_have_attribute("data-state", "open")
        expect(page.locator("#power-stop")).to_be_enabled()
        newest = max(self.numbers(page))
        self.shown(page, f"tick {newest + 5}")
        numbers = self.numbers(page)
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        self.assertIn(numbers[0], range(1, 3))
        self.keep(page, "daemon-back")

    def numbers(self, page: Page) -> list[int]:
        return [int(row[5:]) for row in rows(page) if re.fullmatch(r"tick \d+", row)]


class TokenTests(WebConsoleCase):
    """Who may look, and how a person is told."""

    def test_expired(self) -> None:
        """An expired token is refused in words; a fresh one pasted into the field opens the console."""
        self.node.create("srv_old", TALKATIVE)
        page = self.open("srv_old", token=self.node.token("srv_old", issued=time.time() - 400))
        expect(page.locator("#token-panel")).to_be_visible()
        expect(page.locator("#token-why")).to_contain_text(re.compile("run out", re.IGNORECASE))
        self.keep(page, "expired")
        page.fill("#token-field", self.node.token("srv_old"))
        page.click("#token-use")
        self.shown(page, "Done")
        expect(page.locator("#token-panel")).to_be_hidden()

    def test_read_only(self) -> None:
        """Without console.write there is nothing to type into, and no power without its permission."""
        self.node.create("srv_read", TALKATIVE)
        page = self.open("srv_read", token=self.node.token("srv_read", {"canRead": True, "canWrite": False}))
        self.shown(page, "Done")
        expect(page.locator("#line-text")).to_be_hidden()
        expect(page.locator("#power-kill")).to_be_hidden()
