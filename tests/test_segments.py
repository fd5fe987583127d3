"""Scrollback on disk: written twice over, compressed when old, damaged in any way."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import ConsoleConfig
from stellarstack.console import packed
from stellarstack.console.packed import BLOCK
from stellarstack.console.segments import Segments
from tests.test_console import GAME, ConsoleCase
from tests.ws_client import settle

LIMIT = 2 << 20
SEGMENT = LIMIT // 8
LINES = b"".join(b"[12:00:%02d] line %07d of a game that talks\n" % (n % 60, n) for n in range(36_000))[: 6 * SEGMENT]


def no_space(_descriptor: int) -> None:
    """A disk without room."""
    raise OSError(28, "No space left on device")


class PiecesTests(SynchronousTestCase):
    """A batch is written in the pieces that it came in."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.segments = Segments(self.folder, LIMIT)

    def whole(self, segments: Segments) -> bytes:
        start, data = segments.read(0, 1 << 30)
        self.assertEqual(start, 0)
        return data

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.lists(st.integers(1, 2 * SEGMENT), min_size=1, max_size=6), min_size=1, max_size=3))
    def test_any_pieces(self, batches: list[list[int]]) -> None:
        """Any pieces: the bytes of them all, in order, for a later daemon too."""
        self.setUp()
        written = b""
        for batch in batches:
            pieces: list[bytes] = []
            for size in batch:
                at = len(written) + sum(map(len, pieces))
                if at < LIMIT:
                    pieces.append(LINES[at % 41 :][: min(size, LIMIT - at)])
            self.segments.write(len(written), pieces)
            written += b"".join(pieces)
        self.assertEqual(self.whole(self.segments), written)
        again = Segments(self.folder, LIMIT)
        again.load(0)
        self.assertEqual((self.whole(again), again.end), (written, len(written)))

    def test_begins_with_a_line(self) -> None:
        """Also where the piece in which a segment is full ends before its line does."""
        cut = SEGMENT + 3
        self.segments.write(0, [LINES[:cut], LINES[cut : cut + 1], LINES[cut + 1 : 2 * SEGMENT]])
        second = sorted(path.name for path in self.folder.glob("*.log"))[1]
        self.assertEqual(LINES[int(second[:20]) - 1 : int(second[:20])], b"\n")

    def test_a_disk_that_takes_a_part(self) -> None:
        """K14, K15: a short write goes on where it ended; one that fails after a part leaves nothing of it."""
        writev = os.writev

        def short(descriptor: int, pieces: list[bytes]) -> int:
            return writev(descriptor, [b"".join(pieces)[:7]])

        def full(descriptor: int, data: object) -> int:
            raise OSError(28, "No space left on device")

        self.patch(os, "writev", short)
        self.segments.write(0, [b"one\n", b"two\n", b"three\n"])
        self.patch(os, "write", full)
        self.assertRaises(OSError, self.segments.write, 14, [b"four\n", b"five\n"])
        self.assertEqual((self.whole(self.segments), self.segments.end), (b"one\ntwo\nthree\n", 14))
        self.patch(os, "writev", writev)
        self.segments.write(14, [b"six\n"])
        again = Segments(self.folder, LIMIT)
        again.load(0)
        self.assertEqual(self.whole(again), b"one\ntwo\nthree\nsix\n")


class OverlapTests(SynchronousTestCase):
    def test_a_write_that_was_thought_broken_off(self) -> None:
        """K15: bytes that are there already are not taken for a hole: the past stays."""
        folder = Path(self.mktemp())
        folder.mkdir()
        segments = Segments(folder, 1 << 20)
        segments.write(0, [b"a" * 1000])
        segments.write(500, [b"a" * 500 + b"b" * 100])
        self.assertEqual((segments.first, segments.end), (0, 1100))
        self.assertEqual(segments.read(990, 20), (990, b"a" * 10 + b"b" * 10))
        segments.write(2000, [b"c"])
        self.assertEqual((segments.first, segments.end), (2000, 2001))


class PackedCase(SynchronousTestCase):
    """A folder with five closed segments of 256 KiB, packed, and a sixth."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.segments = self.open()
        self.segments.write(0, [LINES])
        while self.segments.pack_oldest(1 << 40):
            pass

    def open(self) -> Segments:
        segments = Segments(self.folder, LIMIT)
        segments.load(0)
        return segments

    def files(self, ending: str) -> list[Path]:
        return sorted(self.folder.glob(f"*.{ending}"))

    def all_of(self, segments: Segments, step: int = 65536) -> list[tuple[int, bytes]]:
        """Whatever can be read, page by page, in runs that follow one another."""
        runs: list[tuple[int, bytes]] = []
        at = 0
        while at < segments.end:
            begins, data = segments.read(at, step)
            if not data:
                break
            if runs and runs[-1][0] + len(runs[-1][1]) == begins:
                runs[-1] = (runs[-1][0], runs[-1][1] + data)
            else:
                runs.append((begins, data))
            at = begins + len(data)
        return runs

    def judge(self, runs: list[tuple[int, bytes]], lost: int, whole: int = len(LINES)) -> None:
        """Every byte is the one that was written; at most `lost` of `whole` are missing."""
        for begins, data in runs:
            self.assertEqual(data, LINES[begins : begins + len(data)])
        self.assertLessEqual(whole - sum(len(data) for _, data in runs), lost)


class PackedTests(PackedCase):
    """Closed segments are compressed and read as before."""

    def test_smaller_and_exact(self) -> None:
        """All but the newest are packed; every page is exact, also after a restart, from wherever it begins."""
        self.assertEqual((len(self.files("log")), len(self.files("logz"))), (1, 5))
        self.assertLess(sum(path.stat().st_size for path in self.folder.iterdir()), len(LINES) // 2)
        for segments in (self.segments, self.open()):
            self.assertEqual((segments.first, segments.end), (0, len(LINES)))
            self.assertEqual(self.all_of(segments), [(0, LINES)])
            for start in (0, 1, BLOCK - 1, BLOCK, SEGMENT - 5, 3 * SEGMENT + 9, len(LINES) - 1):
                self.assertEqual(segments.read(start, 262144), (start, LINES[start : start + 262144]))
        self.segments.write(len(LINES), [b"more\n"])
        self.assertEqual(self.segments.read(len(LINES) - 3, 99), (len(LINES) - 3, LINES[-3:] + b"more\n"))

    def test_a_page_unpacks_little(self) -> None:
        """A page of 64 KiB never unpacks more than a MiB."""
        unpacked: list[int] = []
        real = packed._unpack

        def counted(block: bytes, size: int) -> bytes | None:
            unpacked.append(size)
            return real(block, size)

        self.patch(packed, "_unpack", counted)
        for start in range(0, 4 * SEGMENT, 29_999):
            unpacked.clear()
            self.segments.read(start, 65536)
            self.assertLessEqual(sum(unpacked), 1 << 20)

    def test_dropped_when_too_many(self) -> None:
        """The limit counts bytes of the terminal; what falls out is gone from the disk, packed or not."""
        for n in range(1, 4):
            self.segments.write(n * len(LINES), [LINES])
        self.assertLessEqual(self.segments.end - self.segments.first, LIMIT)
        names = {int(path.name[:20]) for path in self.folder.iterdir()}
        self.assertEqual(min(names), self.segments.first)

    def test_what_does_not_shrink(self) -> None:
        """Stays as it is, and is not tried again."""
        noise = random.Random(1).randbytes(3 * SEGMENT)
        folder = Path(self.mktemp())
        segments = Segments(folder, LIMIT)
        segments.load(0)
        segments.write(0, [noise])
        self.assertEqual([segments.pack_oldest(1 << 40) for _ in range(3)], [True, True, False])
        self.assertEqual((segments.closed_end, list(folder.glob("*.logz*"))), (0, []))
        self.assertEqual(segments.read(0, 1 << 30), (0, noise))

    def test_removed(self) -> None:
        """A deleted server leaves nothing."""
        self.segments.remove()
        self.assertFalse(self.segments.pack_oldest(1 << 40))
        self.assertFalse(self.folder.exists())


class DamageTests(PackedCase):
    """K14, K15, K16: whatever the disk did, what is whole is read, and nothing else."""

    def test_a_damaged_block(self) -> None:
        """One block is lost, and told by where the next bytes begin."""
        path = self.files("logz")[2]
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        path.write_bytes(raw)
        for segments in (self.segments, self.open()):
            runs = self.all_of(segments)
            self.assertEqual(len(runs), 2)
            self.judge(runs, BLOCK)

    def test_a_segment_that_is_gone_or_cut(self) -> None:
        """The others stay, before and after it."""
        size = SEGMENT + 4096
        for harm in (b"", b"short", None):
            self.setUp()
            path = self.files("logz")[2]
            if harm is None:
                path.unlink()
            else:
                path.write_bytes(harm)
            self.judge(self.all_of(self.segments), size)
            self.judge(self.all_of(self.open()), size if harm is not None else 3 * size)

    def test_a_plain_segment_cut_short(self) -> None:
        """What follows it, and what is left of it, is read."""
        segments = Segments(folder := Path(self.mktemp()), LIMIT)
        segments.load(0)
        segments.write(0, [LINES])
        path = sorted(folder.glob("*.log"))[3]
        path.write_bytes(path.read_bytes()[:1000])
        again = Segments(folder, LIMIT)
        again.load(0)
        for one in (segments, again):
            runs = self.all_of(one)
            self.assertEqual(len(runs), 2)
            self.judge(runs, SEGMENT)

    def test_a_death_midway(self) -> None:
        """K15: half of a packed file is swept away; both forms at once are one."""
        first, second = self.files("logz")[:2]
        plain = self.folder / (first.name[:20] + ".log")
        plain.write_bytes(self.segments.read(0, int(second.name[:20]))[1])
        (self.folder / (second.name + ".new")).write_bytes(b"half")
        (self.folder / ".console.json.0123456789abcdef.tmp").write_bytes(b"{")
        again = self.open()
        self.assertEqual(self.all_of(again), [(0, LINES)])
        self.assertEqual(([*self.folder.glob("*.new"), *self.folder.glob(".*")], plain.exists()), ([], False))
        first.write_bytes(first.read_bytes()[:100])  # the packed one is not whole: the plain one counts
        plain.write_bytes(LINES[: int(second.name[:20])])
        self.assertEqual(self.all_of(self.open()), [(0, LINES)])
        self.assertTrue(plain.exists())

    def test_a_full_disk(self) -> None:
        """K14: nothing is lost where the packed form finds no room, and it is tried again."""
        folder = Path(self.mktemp())
        segments = Segments(folder, LIMIT)
        segments.load(0)
        segments.write(0, [LINES])
        full = self.patch(os, "fsync", no_space)
        self.assertRaises(OSError, segments.pack_oldest, 1 << 40)
        self.assertEqual((list(folder.glob("*.logz*")), self.all_of(segments)), ([], [(0, LINES)]))
        full.restore()
        self.assertTrue(segments.pack_oldest(1 << 40))
        self.assertEqual(self.all_of(segments), [(0, LINES)])

    @settings(max_examples=12, deadline=None)
    @given(st.data())
    def test_any_damage(self, draw: st.DataObject) -> None:
        """Any bytes flipped, any files cut or swapped: no exception, no byte that was not written, a start."""
        folder = Path(self.mktemp())
        segments = Segments(folder, 400_000)
        segments.load(0)
        segments.write(0, [LINES[:380_000]])
        while segments.pack_oldest(1 << 40):
            pass
        files = sorted(path for path in folder.iterdir() if path.suffix != ".log")
        for _ in range(draw.draw(st.integers(1, 4))):
            path = draw.draw(st.sampled_from(files))
            raw = bytearray(path.read_bytes())
            if raw and draw.draw(st.booleans()):
                raw[draw.draw(st.integers(0, len(raw) - 1))] ^= draw.draw(st.integers(1, 255))
            else:
                del raw[draw.draw(st.integers(0, len(raw))) :]
            path.write_bytes(raw)
        self.judge(self.all_of(segments, 30_000), 380_000, 380_000)
        again = Segments(folder, 400_000)
        again.load(0)
        self.judge(self.all_of(again, 30_000), 380_000, 380_000)

    def test_a_bomb(self) -> None:
        """A block that unpacks to more than a block is damage, whatever its own checksum says."""
        path = self.files("logz")[0]
        size = packed.packed_size(path)
        assert size is not None
        block = zlib.compress(bytes(4 << 20), 9)
        self.assertIsNone(packed._unpack(block, BLOCK))
        self.assertIsNone(packed._unpack(block[:-1], 4 << 20))


class AgeTests(ConsoleCase):
    """When it is done: not under a flood, not all at once."""

    config = ConsoleConfig(scrollback=LIMIT)

    def packed(self) -> int:
        return len(list((self.folder / "srv_1").glob("*.logz")))

    def flood(self) -> None:
        for start in range(0, len(LINES), SEGMENT):
            self.say(LINES[start : start + SEGMENT], after=0.06)

    def test_after_a_minute(self) -> None:
        """Closed segments are packed when they are a minute old; what is read stays the same."""
        self.run_game()
        self.flood()
        settle(self.clock, 50)
        self.assertEqual(self.packed(), 0)
        for _ in range(200):
            settle(self.clock, 0.5)
        self.assertEqual(self.packed(), 5)
        self.assertEqual(self.everything(), LINES)
        self.say("more\n", after=0.1)
        self.die()
        self.boot()
        self.assertEqual(self.everything(), LINES + b"more\n")

    def test_after_a_restart(self) -> None:
        """What an earlier daemon left unpacked is packed too; a stop ends it."""
        self.run_game()
        self.flood()
        self.now(self.rooms.consoles.stop())
        self.boot()
        settle(self.clock, 61)
        self.assertEqual(self.packed(), 1)
        self.now(self.rooms.consoles.stop())
        settle(self.clock, 200)
        self.assertEqual((self.packed(), self.engine.get(GAME).name), (1, GAME))

    def test_a_folder_that_takes_nothing(self) -> None:
        """K14: it is told once, the console goes on, and it is done when there is room."""
        self.run_game()
        self.flood()
        folder = self.folder / "srv_1"
        moved = folder.rename(self.folder / "elsewhere")
        for _ in range(5):
            settle(self.clock, 61)
        self.say("more\n", after=0.1)
        moved.rename(folder)
        for _ in range(200):
            settle(self.clock, 0.5)
        self.assertEqual(self.packed(), 5)
        self.assertEqual(self.everything(), LINES + b"more\n")
