"""What a game prints may neither stop the page that shows it nor overwrite what is to be read (P06)."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.test_web_console import WebConsoleCase, rows

PRINTER = r"""
echo loading; echo Done
while read -r line; do
  case "$line" in
    print*) printf "${line#print }"; echo;;
    often*) printf "${line#often }%.0s" $(seq 1 20000); echo;;
    accents*) many=$(printf '\314\201%.0s' $(seq 1 8000))
      for _ in $(seq 1 60); do printf "e$many\033[2147483647b\n"; done;;
    *) echo "you said $line";;
  esac
done
"""
# Device attributes, status, a mode; and how the answer to the status looks where it is echoed.
QUESTIONS, ANSWERS = r"\033[c\033[>c\033[5n\033[?7$p\033P$qm\033\\", "^[[0n"
COUNTED = "SbTLMIZ@PXABCDEFGHdefa`rJK"
COLUMNS = (" @", " A", "'}", "'~")


class UntrustedOutputTests(WebConsoleCase):
    """A container prints what is meant to do harm."""

    def test_page_stays_alive(self) -> None:
        """P06: after each sequence with the largest count there is, and floods of large ones, a line is answered."""
        self.node.create("srv_bomb", PRINTER)
        page = self.open("srv_bomb")
        self.shown(page, "Done")
        bombs = [f"print a\\033[2147483647{final}" for final in (*COUNTED, *COLUMNS)]
        floods = [f"often a\\033[1000{final}" for final in "SLb"]
        for number, line in enumerate(["accents", *bombs, *floods]):
            self.say(page, line)
            self.say(page, f"alive {number}")
            self.shown(page, f"you said alive {number}")
        self.assertEqual(self.complaints, [])

    def test_large_counts_do_what_they_say(self) -> None:
        """A count beyond the screen does as much as the screen has: all lines go, one letter fills the rest."""
        self.node.create("srv_much", PRINTER)
        page = self.open("srv_much")
        self.shown(page, "Done")
        self.say(page, r"print \033[H\033[2147483647Mmy\040screen")
        self.shown(page, "my screen")
        self.assertEqual([row for row in rows(page) if row], ["my screen"])
        self.say(page, r"print \033[H\033[2Jx\033[99bend")
        self.shown(page, "x" * 100 + "end")

    def test_letters_with_accents(self) -> None:
        """A letter keeps its accents, 30 at most; wide letters stay wide."""
        self.node.create("srv_accents", PRINTER)
        page = self.open("srv_accents")
        self.shown(page, "Done")
        for letter, count, kept in (("a", 3, 3), ("e", 30, 30), ("o", 40, 30)):
            self.say(page, f"print <{letter}" + r"\314\201" * count + r"\r\n>")
            wanted = f"<{letter}" + "\u0301" * kept
            self.until(page, lambda wanted=wanted: wanted in rows(page), f"{kept} accents")
        self.say(page, "print \u6f22\u5b57|")
        self.shown(page, "\u6f22\u5b57|")
        self.assertEqual(self.complaints, [])

    def test_old_questions(self) -> None:
        """In raw mode the terminal answers what a program asks it now, and nothing of what is shown again."""
        self.node.create("srv_asks", PRINTER)
        page = self.open("srv_asks")
        self.shown(page, "Done")
        page.check("#mode-raw", force=True)
        page.click("#terminal")
        page.keyboard.type(f"print asked{QUESTIONS}\r")
        self.until(
            page, lambda: any(ANSWERS in row for row in rows(page)), "the answers, as the game's PTY echoes them"
        )
        page.keyboard.type("\x15")  # the line in which they stand is cleared
        page.keyboard.type("first\r")
        self.shown(page, "you said first")
        later = page.context.new_page()
        page.close()
        self.visit(later, f"http://127.0.0.1:{self.node.port}/#token={self.node.token('srv_asks')}")
        self.shown(later, "you said first")
        later.check("#mode-raw", force=True)
        later.click("#terminal")
        later.keyboard.type("second\r")
        self.shown(later, "you said second")
        self.assertEqual(
            [row for row in rows(later) if "^[" in row or row.endswith("second")], ["second", "you said second"]
        )
        self.assertEqual(self.complaints, [])

    def test_older_output_stays(self) -> None:
        """What fills, shifts or scrolls a screen changes no line of older output."""
        self.node.create("srv_kept", PRINTER)
        page = self.open("srv_kept")
        self.shown(page, "Done")
        moves = "".join(f"\\033[3{final}" for final in (*COLUMNS, *"STLMAEFd"))
        self.say(page, rf"print kept\040above\nkept\040too\n{moves}\033#8\033[2147483647I\033[2147483647Z")
        self.say(page, "the end")
        self.shown(page, "you said the end")
        page.click("#open-search")
        page.fill("#search-text", "^kept")
        page.click("#search-regex")
        page.click("#search-all")
        page.click("#search-list button >> nth=0")
        expect(page.locator("#past")).to_be_visible()
        place = "#past > div:not(.behind)"
        self.shown(page, "you said the end", place)
        for wanted in ("Done", "kept above", "kept too"):
            self.assertIn(wanted, rows(page, place))
        self.assertEqual([row for row in rows(page, place) if "EEEE" in row], [])
