"""A server's console: scrollback that outlives the daemon, the join after a restart, the fan-out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import ConsoleConfig
from stellarstack.console.fanout import Bounds, FanOut
from stellarstack.console.large_frames import FramePages
from stellarstack.console.pieces import Piece
from stellarstack.console.segments import Segments
from stellarstack.core.frames import Encoding, gap_frame, stats_frame
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize, ServerStatus, StatusReason
from stellarstack.errors import DockerUnavailable, InvalidPayload, InvalidState
from stellarstack.viewing import Frame, ViewRequest
from tests.console_rooms import Rooms, inline
from tests.examples import examples
from tests.fake_container import Program
from tests.fake_engine import FakeEngine
from tests.ws_client import settle

GAME = "game_1"


@dataclass
class Wire:
    """A ViewerWire that keeps frames, decoded; full after `room` of them."""

    room: int = 1 << 30
    viewer: Any = None
    start: int = -1
    end: int = -1
    frames: list[Any] = field(default_factory=list)
    closed: int | None = None

    def ready(self, start: int, end: int, status: ServerStatus) -> None:
        self.start, self.end = start, end

    def write(self, frame: Frame) -> None:
        frame = bytes(frame)
        head = 2 if frame[1] < 126 else 4 if frame[1] == 126 else 10
        self.frames.append(json.loads(frame[head:]) if frame[0] == 0x81 else frame[head:])
        self.room -= 1
        if self.room <= 0 and self.viewer is not None:
            self.viewer.full()

    def straight(self) -> Callable[[Frame], None]:
        return lambda frame: self.write(frame)  # as it is then: tests put others in its place

    def close(self, code: int, reason: str) -> None:
        self.closed = code

    @property
    def text(self) -> str:
        return "".join(frame["data"] for frame in self.frames if isinstance(frame, dict) and frame["type"] == "output")

    @property
    def raw(self) -> bytes:
        return b"".join(frame for frame in self.frames if isinstance(frame, bytes))

    @property
    def gaps(self) -> list[tuple[int, int | None]]:
        return [(f["from"], f["to"]) for f in self.frames if isinstance(f, dict) and f["type"] == "gap"]


class Counted(FramePages):
    """Counts the frames that it is given, and has room for none."""

    placed = 0

    def place(self, head: bytes, body: bytes) -> None:
        Counted.placed += 1


class ConsoleCase(SynchronousTestCase):
    config = ConsoleConfig()

    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.engine = FakeEngine(clock=self.clock, images={"game": Program(replies={"list": "nobody\n"})})
        self.boot()

    def boot(self) -> None:
        """A daemon starts."""
        self.rooms = Rooms(engine=self.engine, directory=self.folder, reactor=self.clock,
                           now=lambda: 1.7e9 + self.clock.seconds(), in_thread=inline, config=self.config)  # fmt: skip
        self.console = self.now(self.rooms.open())

    def die(self) -> None:
        """kill -9: nothing is saved, nothing is closed."""
        for container in self.engine.all():
            container.attached.clear()
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def start(self, coroutine: Any) -> Any:
        found = ensureDeferred(coroutine)
        settle(self.clock)
        return found

    def now(self, coroutine: Any) -> Any:
        return self.successResultOf(self.start(coroutine))

    def run_game(self) -> None:
        body: dict[str, Json] = {"Image": "game", "Tty": False, "OpenStdin": True}
        self.now(self.engine.create_container(GAME, body))
        self.now(self.console.attach(GAME))
        self.now(self.engine.start(GAME))

    def say(self, text: str | bytes, after: float = 0.0) -> None:
        self.engine.print(GAME, text)
        settle(self.clock, after)

    def view(self, encoding: Encoding = Encoding.JSON, *, room: int = 1 << 30, **more: Any) -> Wire:
        wire = Wire(room)
        wire.viewer = self.now(self.console.view(ViewRequest(encoding, **more), wire))
        return wire

    def everything(self) -> bytes:
        return self.view(Encoding.RAW, since=0).raw


class ScrollbackTests(ConsoleCase):
    """Offsets go on over runs and daemon restarts; what is damaged never stops a start."""

    def test_over_a_stop_and_a_start(self) -> None:
        """An ordered stop keeps every byte."""
        self.run_game()
        self.say("one\n")
        self.now(self.rooms.consoles.stop())
        self.boot()
        self.assertEqual(self.everything(), b"one\n")
        self.now(self.console.attach(GAME))
        self.say("two\n")
        self.assertEqual(self.everything(), b"one\ntwo\n")

    def test_a_kill_loses_a_moment_at_most(self) -> None:
        """What is older than 50 ms is on disk."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.say("two\n")
        self.die()
        self.boot()
        self.assertEqual(self.everything(), b"one\n")

    def test_damaged_files(self) -> None:
        """K16: truncated, emptied, foreign or unreadable: the console opens, offsets never go back."""
        self.run_game()
        self.say("x" * 100, after=0.1)
        self.now(self.rooms.consoles.stop())
        folder = self.folder / "srv_1"
        for harm in ("segment", "notes", "both", "foreign", "gone"):
            segment = next(path for path in sorted(folder.glob("*.log"), reverse=True) if path.is_file())
            if harm in ("segment", "both"):
                segment.write_bytes(b"x")
            if harm in ("notes", "both"):
                (folder / "console.json").write_bytes(b"[" * 5000)
            if harm == "foreign":
                (folder / "console.json").write_text('{"end":"x","size":[0,"a"],"runs":[[1],7],"gaps":[-1,true,"x"]}')
                (folder / "nonsense.log").mkdir()
                (folder / f"{7:020d}.log").mkdir()
            if harm == "gone":
                segment.unlink()
            self.boot()
            wire = self.view()
            self.assertGreaterEqual(wire.end, 100 if harm in ("segment", "gone") else 0, harm)
            self.now(self.console.attach(GAME))
            self.say("y" * 100, after=0.1)
            self.assertEqual(wire.text[-100:], "y" * 100)
            self.now(self.rooms.consoles.stop())

    def test_a_disk_that_takes_nothing(self) -> None:
        """K14: the console goes on, and the scrollback with it when there is room again."""
        self.run_game()
        folder = self.folder / "srv_1"
        moved = folder.rename(self.folder / "elsewhere")
        self.say("one\n", after=0.1)
        self.assertEqual(self.everything(), b"one\n")
        moved.rename(folder)
        settle(self.clock, 2)
        self.die()
        self.boot()
        self.assertEqual(self.everything(), b"one\n")

    def test_a_disk_that_is_too_slow(self) -> None:
        """K14: what is unsaved is bounded; its oldest is given up, with a gap, and offsets stay true."""
        self.run_game()
        self.say("first\n", after=0.1)
        (self.folder / "srv_1").rename(self.folder / "elsewhere")
        for number in range(300):
            self.say(b"%07d\n" % number * 1000, after=0.1)
        wire = self.view(since=0)
        ((start, to),) = wire.gaps
        self.assertEqual((start, wire.end), (0, 6 + 300 * 8000))
        assert to is not None
        self.assertEqual(wire.text.encode(), (b"first\n" + b"".join(b"%07d\n" % n * 1000 for n in range(300)))[to:])
        self.assertLess(len(wire.text), 2 << 20)
        (self.folder / "srv_1").mkdir()
        for _ in range(70):
            settle(self.clock, 1)
        self.now(self.rooms.consoles.stop())
        self.boot()
        self.assertEqual(self.view(since=0).gaps, [(0, to)])

    def test_what_is_not_in_memory(self) -> None:
        """Replay and history read from disk what is older, exact to the byte."""
        self.run_game()
        whole = b""
        for number in range(300):
            piece = f"é{number:06d}\n".encode() * 500
            whole += piece
            self.say(piece, after=0.1)
        self.assertEqual(self.everything(), whole)
        self.assertEqual(self.view(since=0).text, whole.decode())
        page = self.now(self.console.history(700_001, 262144))
        self.assertEqual((page.data, page.first), (whole[page.start : 700_001], 0))
        self.assertIn(700_001 - 262144 - page.start, (0, -1))
        self.assertEqual(self.view(scrollback=1 << 20).text, whole[-(1 << 20) :].partition(b"\n")[2].decode())
        for segment in sorted((self.folder / "srv_1").glob("*.log"))[:1]:
            segment.write_bytes(b"")
        wire = self.view(Encoding.RAW, since=0)
        (gap,) = wire.gaps
        self.assertEqual(wire.raw, whole[gap[1] :])

    def test_size_is_kept(self) -> None:
        """The size the viewers asked for last holds for later starts."""
        self.run_game()
        self.console.resize(PtySize(100, 30))
        self.die()
        self.boot()
        self.now(self.console.attach(GAME))
        self.now(self.console.resize_pty())
        process = self.engine.get(GAME).process
        assert process is not None
        self.assertEqual(process.size, PtySize(100, 30))

    def test_discard(self) -> None:
        """A deleted server's viewers are closed, its files are gone, and a new one begins at 0."""
        self.run_game()
        self.say("one\n", after=0.1)
        wire = self.view()
        self.now(self.rooms.consoles.discard("srv_1"))
        self.assertEqual((wire.closed, list(self.folder.iterdir())), (4404, []))
        settle(self.clock, 60)
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertIsNone(self.rooms.consoles.feed("srv_1"))
        self.console = self.now(self.rooms.open())
        self.assertEqual(self.view().end, 0)

    def test_ids_are_no_paths(self) -> None:
        """P05: no folder outside the console's own."""
        for wrong in ("../x", "", ".hidden", "a/b", "a" * 65):
            self.failureResultOf(self.start(self.rooms.open(wrong)), InvalidPayload)

    def test_one_console_a_server(self) -> None:
        """The same object, also for two who ask at once."""
        self.assertIs(self.now(self.rooms.open()), self.console)
        disk: Deferred[None] = Deferred()

        async def slowly(work: Any, *args: Any) -> Any:
            await disk
            return work(*args)

        rooms = Rooms(engine=self.engine, directory=self.folder, reactor=self.clock, now=lambda: 0.0, in_thread=slowly)
        first, second = self.start(rooms.open()), self.start(rooms.open())
        self.assertNoResult(second)
        disk.callback(None)
        self.assertIs(self.successResultOf(first), self.successResultOf(second))

    def test_resizing_what_does_not_run(self) -> None:
        """The size is kept; that no terminal is there yet is no error."""
        self.now(self.engine.create_container(GAME, {"Image": "game", "Tty": True, "OpenStdin": True}))
        self.now(self.console.attach(GAME))
        self.console.resize(PtySize(99, 9))
        self.console.resize(PtySize(99, 9))

    def test_an_attach_that_fails(self) -> None:
        """Nothing is attached, and the next attempt is as the first."""
        self.failureResultOf(self.start(self.console.attach("nothing")), DockerUnavailable)
        self.assertFalse(self.console.attached)
        self.run_game()
        self.assertTrue(self.console.attached)

    def test_a_reader_with_a_bug(self) -> None:
        """It is logged, and nobody else is harmed."""

        def broken(line: str) -> None:
            raise RuntimeError(line)

        seen: list[str] = []
        self.run_game()
        self.console.watch(broken)
        self.console.watch(seen.append)
        self.say("one\n")
        self.assertEqual((seen, len(self.flushLoggedErrors(RuntimeError))), (["one"], 1))


class RunTests(ConsoleCase):
    """Runs are marked: when and where they began and ended, and how."""

    def setUp(self) -> None:
        super().setUp()
        self.epoch = 1.7e9

    def marks(self) -> list[tuple[Any, ...]]:
        return [(event.offset, event.at - self.epoch, *event[2:]) for event in self.console.runs(0, 1 << 40)]

    def test_a_crash_and_a_stop(self) -> None:
        """Each end stands after the run's last byte, with exit code and reason; over restarts of the daemon too."""
        self.run_game()
        self.say("one\n", after=5)
        wire = self.view()
        self.engine.crash(GAME)
        settle(self.clock)
        self.console.set_status(ServerStatus.CRASHED, 137, StatusReason.OOM)
        self.now(self.console.attach(GAME))
        self.console.set_status(ServerStatus.STARTING)
        self.console.set_status(ServerStatus.STOPPED, 0, StatusReason.EXIT)
        self.assertEqual(len(self.marks()), 3)  # the PTY is held still: its last bytes may come
        self.now(self.engine.start(GAME))
        self.say("two\n", after=1)
        self.engine.crash(GAME)
        settle(self.clock)
        expected = [
            (0, 0, "started", None, None), (4, 5, "crashed", 137, "oom"), (4, 5, "started", None, None),
            (8, 5, "exited", 0, "exit"),
        ]  # fmt: skip
        self.assertEqual(self.marks(), expected)
        self.assertEqual(
            [frame for frame in wire.frames if frame["type"] == "status"],
            [{"type": "status", "status": "crashed", "at": self.epoch + 5, "exitCode": 137, "reason": "oom"},
             {"type": "status", "status": "starting"},
             {"type": "status", "status": "stopped", "at": self.epoch + 5, "exitCode": 0, "reason": "exit"}],
        )  # fmt: skip
        self.die()
        self.boot()
        self.assertEqual(self.marks(), expected)
        self.assertEqual([event.event for event in self.console.runs(4, 8)], ["crashed", "started"])

    def test_an_end_while_the_daemon_was_away(self) -> None:
        """The mark comes after what the engine's log had of it."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.say("last words\n")
        self.engine.crash(GAME)
        self.boot()
        joining = self.start(self.console.attach(GAME, rejoin=True))
        self.console.set_status(ServerStatus.CRASHED, 1, StatusReason.EXIT)
        for _ in range(60):
            settle(self.clock, 0.1)
        self.successResultOf(joining)
        self.assertEqual([mark[0] for mark in self.marks()], [0, 15])

    def test_last_words_are_recalled(self) -> None:
        """Of a run that ended while the daemon was away, from the engine's log; where it has none there is a gap."""
        for stopped in (False, True):
            self.setUp()
            self.run_game()
            self.say("one\n", after=0.1)
            if stopped:
                self.now(self.rooms.consoles.stop())
            self.die()
            self.say("last words\n")
            self.engine.crash(GAME)
            self.boot()
            self.start(self.console.recall(GAME))
            self.console.set_status(ServerStatus.CRASHED, 1, StatusReason.EXIT)
            settle(self.clock, 1)
            wire = self.view(since=0)
            self.assertEqual((wire.text, wire.gaps), ("one\nlast words\n", []))
            self.assertEqual([mark[0] for mark in self.marks()], [0, 15])
            self.now(self.console.attach(GAME))  # and the next run goes on without a gap
            self.assertEqual(self.view(since=0).gaps, [])
        self.setUp()
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.now(self.engine.remove(GAME))
        self.boot()
        self.start(self.console.recall(GAME))
        settle(self.clock, 10)
        self.assertEqual(self.view(since=0).gaps, [(4, None)])

    def test_bounded(self) -> None:
        """However often it crashes; an end without a run is no news."""
        self.console.set_status(ServerStatus.STOPPED)
        self.assertEqual(self.marks(), [])
        self.run_game()
        for number in range(100):
            self.say("x", after=0.1)
            self.console.set_status(ServerStatus.CRASHED, number)
            self.console.set_status(ServerStatus.STARTING)
            self.now(self.console.attach(GAME))
        self.assertEqual((len(self.marks()), self.marks()[-2][3]), (127, 99))


class SegmentTests(SynchronousTestCase):
    """The files: bounded, in order, beginning with a line."""

    @examples(20)
    @given(st.lists(st.binary(max_size=3000), max_size=40), st.integers(800, 9000))
    def test_what_is_kept_is_what_came(self, pieces: list[bytes], limit: int) -> None:
        """Any pieces and any limit: the newest bytes, exact, also after another start."""
        segments = Segments(Path(self.mktemp()), limit)
        segments.load(0)
        whole = b""
        for piece in pieces:
            segments.write(len(whole), [piece])
            whole += piece
        for one in (segments, Segments(segments._directory, limit)):
            if one is not segments:
                one.load(len(whole))
            start, kept = one.read(0, 1 << 30)
            self.assertEqual((start, kept), (one.first, whole[one.first :]))
            if whole:
                self.assertEqual(one.end, len(whole))
            self.assertLessEqual(len(kept), limit + 4096 + 3000)

    def test_segments_begin_with_a_line(self) -> None:
        """Where lines are not longer than 4 KiB."""
        segments = Segments(Path(self.mktemp()), 8000)
        segments.load(0)
        whole = b"".join(b"line %d\n" % number for number in range(3000))
        segments.write(0, [whole])
        self.assertEqual(whole[segments.first - 1 : segments.first], b"\n")

    def test_a_hole_gives_up_the_past(self) -> None:
        """Bytes that were never written are not made up."""
        segments = Segments(Path(self.mktemp()), 8000)
        segments.load(0)
        segments.write(0, [b"old"])
        segments.write(100, [b"new"])
        self.assertEqual(segments.read(0, 100), (100, b"new"))


class RejoinTests(ConsoleCase):
    """After a restart or kill -9 the console goes on: lines exact, or one gap."""

    def rejoin(self) -> Any:
        return self.start(self.console.attach(GAME, rejoin=True))

    def test_lines_printed_meanwhile(self) -> None:
        """They are there, once, and what comes then follows."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.say("two\n")
        self.die()
        self.say("three\n")
        self.boot()
        self.successResultOf(self.rejoin())
        self.assertEqual(self.everything(), b"one\ntwo\nthree\n")
        wire = self.view(since=0)
        self.say("four\n", after=0.5)
        self.assertEqual((wire.text, wire.gaps), ("one\ntwo\nthree\nfour\n", []))

    def test_a_slow_log_holds_nobody_up(self) -> None:
        """The terminal is held at once, however long the engine takes for its log: one can type meanwhile."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.say("two\n")
        self.boot()
        self.engine.faults.latency = lambda name: 5.0 if name == "logs" else 0.0
        self.successResultOf(self.rejoin())
        self.assertTrue(self.console.attached)
        self.console.enter("list")
        for _ in range(20):
            settle(self.clock, 1.0)
        self.assertEqual(self.everything(), b"one\ntwo\nnobody\n")

    def test_an_unfinished_line(self) -> None:
        """A line begun while nobody listened is whole when it ends."""
        self.run_game()
        self.say("one\ntw", after=0.1)
        self.die()
        self.say("o an")
        self.boot()
        self.rejoin()
        self.say("d a half\n", after=0.3)
        self.assertEqual(self.everything(), b"one\ntwo and a half\n")

    def test_no_proof(self) -> None:
        """An unfinished line that goes on without an end: one gap, nothing repeated, nothing made up."""
        self.run_game()
        self.say("> ", after=0.1)
        self.die()
        self.say("lost")
        self.boot()
        self.rejoin()
        wire = self.view(Encoding.RAW, since=0)
        self.say("s")
        for _ in range(60):
            settle(self.clock, 0.05)
        self.assertEqual((wire.raw, wire.gaps), (b"> s", [(2, None)]))
        again = self.view(Encoding.RAW, since=0)
        self.assertEqual(again.frames, [b"> ", {"type": "gap", "from": 2, "to": None}, b"s"])
        self.die()
        self.boot()
        self.assertEqual(self.view(since=0).gaps, [(2, None)])

    def test_repeated_lines_in_a_flow(self) -> None:
        """The same line over and over is joined when the output pauses."""
        self.run_game()
        self.say("tick\n" * 5, after=0.1)
        self.die()
        self.say("tick\n" * 3)
        self.boot()
        self.rejoin()
        self.say("tick\n" * 2, after=0.5)
        self.assertEqual(self.everything(), b"tick\n" * 10)

    def test_another_container(self) -> None:
        """A run that this console never heard of is taken from its log as a whole."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.now(self.engine.remove(GAME))
        self.now(self.engine.create_container("game_2", {"Image": "game", "Tty": False, "OpenStdin": True}))
        self.now(self.engine.start("game_2"))
        self.engine.print("game_2", "new\n")
        self.boot()
        self.now(self.console.attach("game_2", rejoin=True))
        self.assertEqual(self.everything(), b"one\nnew\n")

    def test_dockerd_restarts(self) -> None:
        """K01: the attach breaks and is taken again; the lines of the meantime are there once."""
        self.run_game()
        self.say("one\n")
        self.engine.go_down()
        settle(self.clock)
        self.assertFalse(self.console.attached)
        self.assertRaises(InvalidState, self.console.type, b"x")
        self.failureResultOf(self.rejoin(), DockerUnavailable)
        self.say("two\n")
        self.engine.come_back()
        self.rejoin()
        self.say("three\n", after=0.5)
        self.assertEqual(self.everything(), b"one\ntwo\nthree\n")

    def test_an_attach_that_is_replaced(self) -> None:
        """A new attach before the join is done: one gap, nothing held back is lost; the old attach is not heard."""
        self.run_game()
        self.say("> ", after=0.1)
        self.die()
        self.boot()
        self.rejoin()
        self.say("x")
        self.now(self.console.attach(GAME))
        self.say("y\n", after=0.5)
        wire = self.view(since=0)
        self.assertEqual((wire.text, wire.gaps), ("> xy\n", [(2, None)]))

    def test_a_stop_before_the_join_is_done(self) -> None:
        """What was held back is in the engine's log: the next start finds it, and there is no gap."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.boot()
        self.rejoin()
        self.say("tw")
        self.now(self.rooms.consoles.stop())
        self.boot()
        self.rejoin()
        self.say("o\n", after=0.5)
        wire = self.view(since=0)
        self.assertEqual((wire.text, wire.gaps), ("one\ntwo\n", []))

    def test_a_flood_while_joining(self) -> None:
        """What is held back is bounded: over 4 MiB there is a gap and the flood goes on."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.boot()
        self.rejoin()
        wire = self.view(Encoding.RAW, since=0)
        for _ in range(80):
            self.engine.print(GAME, b"y" * 65536)
        settle(self.clock)
        self.assertEqual((wire.gaps, len(wire.raw)), ([(4, None)], 4 + 80 * 65536))

    def test_a_log_that_cannot_be_read(self) -> None:
        """After some attempts: one gap, and output goes on."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.boot()
        log = self.engine.logs

        async def broken(*_: Any, **__: Any) -> bytes:
            raise DockerUnavailable("no log today")

        self.engine.logs = broken  # type: ignore[method-assign]
        self.rejoin()
        self.say("two\n")
        for _ in range(60):
            settle(self.clock, 0.2)
        self.engine.logs = log  # type: ignore[method-assign]
        wire = self.view(since=0)
        self.assertEqual((wire.text, wire.gaps), ("one\ntwo\n", [(4, None)]))

    def test_a_viewer_that_saw_what_was_lost(self) -> None:
        """A kill took bytes that it saw, and nobody can prove which: it is told of a gap, also after other restarts."""
        self.run_game()
        self.say("> one\n> ", after=0.1)
        self.say("lost")
        end = self.view().end
        self.die()
        self.engine.crash(GAME)
        self.boot()
        self.now(self.console.attach(GAME))
        self.now(self.engine.start(GAME))
        self.say("another run\n", after=0.1)
        self.assertEqual([self.view(since=at).gaps for at in (8, end)], [[(8, None)], [(end, None)]])
        self.assertEqual(self.view(Encoding.RAW, since=end).raw, b"her run\n")
        self.now(self.rooms.consoles.stop())
        self.boot()
        self.assertEqual(self.view(since=end).gaps, [(end, None)])
        self.assertEqual(self.view(since=3).gaps, [(8, None)])

    def test_a_viewer_that_saw_more_than_was_saved(self) -> None:
        """Its `since` is above the end until the join is done: it is waited for."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.say("two\n")
        self.die()
        self.boot()
        asked = self.start(self.console.reaches(8))
        self.assertFalse(self.successResultOf(asked))
        self.rejoin()
        self.assertTrue(self.now(self.console.reaches(8)))

    def test_the_game_ended_meanwhile(self) -> None:
        """Its last lines are there."""
        self.run_game()
        self.say("one\n", after=0.1)
        self.die()
        self.say("last words\n")
        self.engine.crash(GAME)
        self.boot()
        self.rejoin()
        for _ in range(20):
            settle(self.clock, 0.1)
        self.assertEqual(self.everything(), b"one\nlast words\n")


class _SlowPast:
    """A disk that does not answer."""

    async def read(self, start: int, limit: int) -> tuple[int, bytes]:
        await Deferred()
        return start, b""

    def gap_after(self, offset: int) -> int | None:
        return None


class _GappyPast(_SlowPast):
    """Bytes 3 to 9 are lost."""

    async def read(self, start: int, limit: int) -> tuple[int, bytes]:
        return (0, b"a\x1b[") if start == 0 else (10, b"6nbcdefghi")


class FanOutTests(ConsoleCase):
    """Every viewer gets exactly the bytes or an explicit gap; nobody waits for anybody."""

    config = ConsoleConfig(viewer_buffer=65536)

    def test_frames_are_built_once(self) -> None:
        """Two viewers get the very same bytes."""
        self.run_game()
        frames: list[bytes] = []
        for _ in range(2):
            wire = self.view()
            wire.write = frames.append  # type: ignore[method-assign, assignment]
        self.say("one\n")
        self.assertIs(frames[0], frames[1])

    def test_a_gap_within_a_character(self) -> None:
        """Who falls behind while a character is unfinished has not been shown its first bytes: the gap has them."""
        self.run_game()
        slow = self.view(room=1)
        self.say(b"a\xe2\x82")
        self.say(b"\xac" + b"0" * 2048)
        for _ in range(100):
            self.say(b"1" * 2048)
        slow.room = 1 << 30
        assert slow.viewer is not None
        slow.viewer.free()
        self.say("end\n")
        self.assertEqual(slow.gaps[0][0], 1)

    def test_escaped_bytes_weigh(self) -> None:
        """What is kept for those behind is bounded by what its frames take, of control bytes six times as much."""
        piece = Piece(0, b"", b"\x01" * 1000, 0, 0.0)
        _, frame = piece.shown(Encoding.JSON)
        self.assertGreaterEqual(piece.weight, len(frame or b""))
        self.assertGreater(len(frame or b""), 5000)

    def test_a_bare_terminal(self) -> None:
        """The bytes and nothing around them, the same object for all; what JSON tells is a line, stats are none."""
        self.run_game()
        self.say("one\n")
        shown: list[list[bytes]] = [[], []]
        for frames in shown:
            wire = self.view(Encoding.PLAIN, stats=True)
            wire.write = frames.append  # type: ignore[method-assign, assignment]
        self.say("two\x1b[1m\n")
        self.console.send_stats({"cpu": 1.0})
        self.console.set_status(ServerStatus.CRASHED, 3)
        self.assertIs(shown[0][0], shown[1][0])
        told = [b"two\x1b[1m\n", b"\x18\r\n[stellarstack: the server is crashed, exit code 3]\r\n"]
        self.assertEqual(shown[0], told)

    def test_a_bare_terminal_is_asked_nothing_old(self) -> None:
        """Questions of the scrollback are not asked again, at page borders neither; WebSockets get every byte."""
        self.run_game()
        past = b"one\n" + b"\x1b[6nx" * 20000 + b"\x1b[c\x1b[?2"
        self.say(past, after=1)
        shown: list[bytes] = []
        wire = Wire()
        wire.write = shown.append  # type: ignore[method-assign, assignment]
        self.now(self.console.view(ViewRequest(Encoding.PLAIN, since=0), wire))
        raw = self.view(Encoding.RAW, since=0)
        self.say(b"026$p\x1b[6n")
        self.assertGreater(len(shown), 2)
        self.assertEqual(b"".join(shown), b"one\n" + b"\x18x" * 20000 + b"\x18\x1b[?2026$p\x1b[6n")
        self.assertEqual(raw.raw, past + b"026$p\x1b[6n")

    def test_a_bare_terminal_and_a_gap(self) -> None:
        """What was begun before a place where output is missing is shown, and not joined to what follows."""
        self.run_game()
        shown: list[bytes] = []
        past: Any = _GappyPast()
        fanout = FanOut(
            past=past, bounds=Bounds(65536), clock=self.clock, now=self.clock.seconds, end=20, pages=FramePages()
        )
        wire = Wire()
        wire.write = shown.append  # type: ignore[method-assign, assignment]
        ensureDeferred(fanout.join(wire, Encoding.PLAIN, False, 0).replay())
        self.assertEqual(shown, [b"a", b"\x1b[", gap_frame(3, 10, Encoding.PLAIN), b"6nbcdefghi"])

    def fanout(self, past: Any, end: int, pages: FramePages | None = None) -> FanOut:
        """One without a console."""
        return FanOut(
            past=past, bounds=Bounds(65536), clock=self.clock, now=self.clock.seconds, end=end,
            pages=pages or FramePages(),
        )  # fmt: skip

    def test_pages_for_many(self) -> None:
        """A large piece goes into shared pages where four or more watch, and is the same object for each of them."""
        past: Any = _GappyPast()
        fanout = self.fanout(past, 0, Counted())
        shown: list[Frame] = []
        placed = []
        for count in range(1, 6):
            wire = Wire()
            wire.write = shown.append  # type: ignore[method-assign, assignment]
            viewer = fanout.join(wire, Encoding.RAW, False, fanout.newest(Encoding.RAW))
            ensureDeferred(viewer.replay())
            shown.clear()
            before = Counted.placed
            fanout.output(b"x" * 20_000)
            placed.append(Counted.placed - before)
            self.assertEqual((len(shown), len({id(frame) for frame in shown})), (count, 1))
        self.assertEqual(placed, [0, 0, 0, 1, 1])

    def test_figures_for_a_full_wire(self) -> None:
        """One whose scrollback is still on its way, and that takes nothing, is sent no figures: they come again."""
        past: Any = _SlowPast()
        fanout = FanOut(
            past=past, bounds=Bounds(65536), clock=self.clock, now=self.clock.seconds, end=100, pages=FramePages()
        )
        wire = Wire()
        viewer = fanout.join(wire, Encoding.RAW, True, 0)
        ensureDeferred(viewer.replay())
        figures = stats_frame({"cpu": 1.0})
        fanout.notice(figures, stats=True)
        self.assertEqual(len(wire.frames), 1)
        viewer.full()
        fanout.notice(figures, stats=True)
        self.assertEqual(len(wire.frames), 1)
        viewer.free()
        fanout.notice(figures, stats=True)
        self.assertEqual(len(wire.frames), 2)

    def test_scrollback_begins_with_a_line(self) -> None:
        """Or with a character, where the line is longer than what was asked for."""
        self.run_game()
        self.say("first line\nsecond line\n" + "é" * 50)
        for asked, start in ((113, 11), (112, 11), (110, 23), (100, 23), (99, 25)):
            self.assertEqual(self.view(scrollback=asked).start, start, asked)
        self.assertEqual(self.view(scrollback=0).start, 123)
        self.assertEqual(self.view(scrollback=1 << 20).start, 0)

    def test_unfinished_characters_wait(self) -> None:
        """K19: JSON frames end on a border; after 100 ms what is unfinished is shown as U+FFFD."""
        self.run_game()
        wire, raw = self.view(), self.view(Encoding.RAW)
        for byte in "é€😀".encode():
            self.say(bytes([byte]))
        self.assertEqual([f["data"] for f in wire.frames], ["é", "€", "😀"])
        self.say(b"\xe2\x82", after=0.05)
        late = self.view()
        self.assertEqual((wire.text, late.start, late.end), ("é€😀", 0, 9))
        settle(self.clock, 0.06)
        self.assertEqual((wire.text, late.text), ("é€😀\ufffd", "é€😀\ufffd"))
        self.assertEqual(raw.raw, "é€😀".encode() + b"\xe2\x82")
        self.assertEqual((wire.frames[-1]["offset"], wire.frames[-1]["end"]), (9, 11))

    def test_slow_viewer(self) -> None:
        """K18: it gets what it has room for, one gap, and then goes on; others see everything."""
        self.run_game()
        slow, fast = self.view(Encoding.RAW, room=1), self.view(Encoding.RAW)
        for number in range(100):
            self.say(b"%04d" % number * 512)
        self.assertEqual((len(fast.raw), len(slow.frames)), (100 * 2048, 1))
        slow.room = 1 << 30
        slow.viewer.free()
        self.say("end\n")
        ((start, end),) = slow.gaps
        self.assertEqual((start, slow.raw), (2048, self.everything()[:2048] + self.everything()[end:]))
        self.assertTrue(end is not None and 50 * 2048 < end < 100 * 2048, end)

    def test_a_little_slow(self) -> None:
        """Within its buffer a viewer loses nothing."""
        self.run_game()
        slow = self.view(Encoding.RAW, room=1)
        for number in range(20):
            self.say(b"%04d" % number * 512)
        while len(slow.frames) < 20:
            slow.room = 3
            slow.viewer.free()
        self.say("end\n")
        slow.room = 1 << 30
        slow.viewer.free()
        self.assertEqual((slow.gaps, slow.raw), ([], self.everything()))

    def test_since_what_is_not_kept(self) -> None:
        """A gap first, then all there is."""
        self.config = ConsoleConfig(scrollback=65536)
        self.boot()
        self.run_game()
        for number in range(60):
            self.say(b"%09d\n" % number * 1000, after=0.1)
        settle(self.clock, 1)
        self.now(self.rooms.consoles.stop())
        self.boot()
        wire = self.view(since=5)
        ((start, to),) = wire.gaps
        self.assertEqual((start, to, wire.end), (5, wire.start, 600_000))
        assert to is not None
        self.assertEqual(len(wire.text), 600_000 - to)
        self.assertLessEqual(len(wire.text), 65536 + 4096)
        page = self.now(self.console.history(None, 262144))
        self.assertEqual((page.start, page.first), (to, to))

    def test_watchers(self) -> None:
        """EGGS 3: each line, escape codes removed, and the unfinished last line as it grows."""
        seen: list[str] = []
        self.run_game()
        stop = self.console.watch(seen.append)
        self.say("\x1b[32mDone\x1b[0m (1s)!\r\nprompt> ")
        self.assertEqual(seen, ["Done (1s)!"])
        settle(self.clock, 0.1)
        self.say("x", after=0.1)
        self.assertEqual(seen, ["Done (1s)!", "prompt> ", "prompt> x"])
        stop()
        self.say("y\n", after=0.1)
        self.assertEqual((len(seen), self.console.tail(2)), (3, ["Done (1s)!", "prompt> xy"]))

    def test_server_log(self) -> None:
        """K17: lines go out as events, at a bounded rate; the rest is told as a number."""
        self.run_game()
        self.say("a\n\nb\n")
        rows = [row["log"] for row in self.rooms.bus.named("server.log")]
        self.assertEqual([(row["stream"], row["message"]) for row in rows], [("stdout", "a"), ("stdout", "b")])
        self.say("flood\n" * 5000)
        self.say("flood\n" * 5000, after=1.1)
        rows = [row["log"] for row in self.rooms.bus.named("server.log")]
        self.assertLess(len(rows), 300)
        self.assertIn("lines more", rows[-1]["message"])

    @examples(25)
    @given(st.data())
    def test_any_chunking_any_resume(self, data: st.DataObject) -> None:
        """Any stream, any cuts, any slowness, any resume: exactly the bytes or an explicit gap; JSON is its text."""
        self.setUp()
        self.run_game()
        alphabet = st.sampled_from(["a", "é", "€", "😀", "\n", "x" * 3000])
        whole = "".join(data.draw(st.lists(alphabet, max_size=60))).encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
        json_wire, raw_wire = self.view(room=data.draw(st.integers(1, 5))), self.view(Encoding.RAW, room=2)
        resumed = raw_wire
        parts: list[bytes] = []
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            self.say(whole[start:end], after=data.draw(st.sampled_from([0.0, 0.06])))
            if data.draw(st.booleans()):
                json_wire.room = data.draw(st.integers(1, 5))
                json_wire.viewer.free()
            if data.draw(st.booleans()):
                resumed.viewer.leave()
                parts.append(resumed.raw)
                resumed = self.view(Encoding.RAW, since=len(b"".join(parts)), room=data.draw(st.integers(1, 5)))
        for wire in (json_wire, resumed):
            wire.room = 1 << 30
            wire.viewer.free()
        settle(self.clock)
        self.assertEqual((b"".join([*parts, resumed.raw]), resumed.gaps), (whole, []))
        at = 0
        for frame in json_wire.frames:
            if frame["type"] == "gap":
                self.assertEqual(frame["from"], at)
                at = frame["to"]
            elif frame["type"] == "output":
                self.assertEqual(
                    (frame["offset"], frame["data"]), (at, whole[at : frame["end"]].decode("utf-8", "replace"))
                )
                at = frame["end"]
        self.assertEqual(at, len(whole))
