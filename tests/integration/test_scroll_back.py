"""Paging back over a whole scrollback of 16 MiB, part of it packed, over a restart of the daemon."""

from __future__ import annotations

from tests.test_console import ConsoleCase
from tests.ws_client import settle


class ScrollBackTests(ConsoleCase):
    """`history`, page by page, from the end to the first byte."""

    def walk(self, limit: int) -> list[tuple[int, bytes]]:
        """All pages, newest first; each ends where the one after it began, or before that where bytes are lost."""
        pages: list[tuple[int, bytes]] = []
        before: int | None = None
        while True:
            page = self.now(self.console.history(before, limit))
            end = page.start + len(page.data)
            self.assertLessEqual(len(page.data), limit)
            if before is not None:
                self.assertLess(page.start, before)
                self.assertLessEqual(end, before)
            pages.append((page.start, page.data))
            if page.start <= page.first:
                return pages
            before = page.start

    def fill(self) -> bytes:
        """16 MiB and more in some 270 000 lines, over a restart of the daemon, the older part packed."""
        self.run_game()
        lines = [f"line {number:07d} é€😀 of a game that talks, and talks on\r\n".encode() for number in range(270_000)]
        for start in range(0, 220_000, 4000):
            self.say(b"".join(lines[start : start + 4000]), after=0.06)
        for _ in range(12):
            settle(self.clock, 61)
            settle(self.clock, 0.3)
        self.now(self.rooms.consoles.stop())
        self.boot()
        self.now(self.console.attach("game_1"))
        for start in range(220_000, 270_000, 4000):
            self.say(b"".join(lines[start : start + 4000]), after=0.06)
        self.assertGreaterEqual(len(list((self.folder / "srv_1").glob("*.logz"))), 4)
        return b"".join(lines)

    def test_over_a_hundred_thousand_lines(self) -> None:
        """Every page is exact, none is missing, none comes twice, whatever its size; characters stay whole."""
        whole = self.fill()
        for limit in (262_144, 65_536):
            pages = self.walk(limit)
            kept = b"".join(data for _, data in reversed(pages))
            self.assertEqual(pages[-1][0] + len(kept), len(whole))
            self.assertTrue(whole.endswith(kept))
            self.assertGreater(kept.count(b"\n"), 200_000)
            self.assertLess(len(pages), len(kept) / limit + 20)
            for _, data in pages:
                data.decode().encode()
        path = sorted((self.folder / "srv_1").glob("*.logz"))[2]
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        pages = self.walk(65_536)
        self.assertTrue(all(data == whole[start : start + len(data)] for start, data in pages))
        lost = len(kept) - sum(len(data) for _, data in pages)
        self.assertTrue(0 < lost <= 131_072, lost)
