"""A model of one console that is watched, broken off and taken up again in any way (PROTOCOL 8, K19).

What the game printed is known to the byte. Each viewer keeps what it was sent with the offsets it was told; whatever
happens, it must be what the console itself has at these offsets, without a hole that no `gap` told of, and what the
console has must be what the game printed, in order, but for `gap`s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from stellarstack.config import ConsoleConfig
from stellarstack.core.frames import Encoding
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.errors import DockerUnavailable
from tests.test_console import GAME, ConsoleCase, Wire
from tests.ws_client import settle

VIEWERS = 3
VALID = st.lists(
    st.sampled_from(["a", "é", "€", "😀", "\n", "\r\n", "\x1b[31m", "word " * 40]), min_size=1, max_size=12
)
BROKEN = st.lists(
    st.sampled_from([b"\xff", b"\xe2\x82", b"\xf0\x9f", b"\x80", b"x\n", b"\xc3"]), min_size=1, max_size=4
)


@dataclass
class Watcher:
    """One viewer over all its connections. `at`: what it would resume with; `told`: what it got, from and to."""

    encoding: Encoding
    wire: Wire | None = None
    at: int | None = None
    read: int = 0
    told: list[tuple[int, int, bytes | str]] = field(default_factory=list)
    outdated: bool = False  # it saw bytes that a `kill -9` took, and others stand in their place


class ConsoleMachine(RuleBasedStateMachine):
    """`case` lends its engine, clock and daemon."""

    case: ConsoleCase

    def __init__(self) -> None:
        super().__init__()
        self.case.config = ConsoleConfig(scrollback=65536, viewer_buffer=65536)
        self.case.setUp()
        self.runs = 0
        self.game = GAME
        self.case.run_game()
        self.printed = b""
        self.numbers = 0
        self.anchors = [(0, 0)]  # (offset, place in what was printed): from there on they go side by side
        self.valid = True
        self.watchers = [Watcher(Encoding.RAW), Watcher(Encoding.JSON), Watcher(Encoding.JSON)][:VIEWERS]

    # ---------------------------------------------------------------- the game

    def _print(self, piece: bytes, after: float = 0.0) -> None:
        self.printed += piece
        self.case.engine.print(self.game, piece)
        settle(self.case.clock, after)

    @initialize()
    def begin(self) -> None:
        self.print_lines(3, 0.0)

    @rule(count=st.integers(1, 30), after=st.sampled_from([0.0, 0.02, 0.2]))
    def print_lines(self, count: int, after: float) -> None:
        self.numbers += 1
        self._print(b"".join(b"line %d.%d\n" % (self.numbers, n) for n in range(count)), after)

    @rule(texts=VALID, cuts=st.lists(st.integers(0, 400), max_size=8))
    def print_text_in_pieces(self, texts: list[str], cuts: list[int]) -> None:
        whole = "".join(texts).encode()
        for start, end in pairwise([0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]):
            self._print(whole[start:end])

    @rule(pieces=BROKEN, after=st.sampled_from([0.0, 0.15]))
    def print_bad_bytes(self, pieces: list[bytes], after: float) -> None:
        self.valid = False
        for piece in pieces:
            self._print(piece, after)

    @rule(size=st.integers(1, 6))
    def flood(self, size: int) -> None:
        for _ in range(size):
            self.numbers += 1
            self._print(b"flood %06d\n" % self.numbers * 1000, 0.06)

    @rule(seconds=st.sampled_from([0.05, 1.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        settle(self.case.clock, seconds)
        settle(self.case.clock, 0.3)

    @rule()
    def end_and_begin_again(self) -> None:
        """A run ends and another begins: offsets go on."""
        self.case.engine.crash(self.game)
        settle(self.case.clock)
        self.case.console.set_status(ServerStatus.CRASHED, 1)
        self._run()

    def _run(self) -> None:
        self.case.console.set_status(ServerStatus.STARTING)
        self.runs += 1
        self.game = f"{GAME}_{self.runs}"
        body: dict[str, Json] = {"Image": "game", "Tty": False, "OpenStdin": True}
        self.case.now(self.case.engine.create_container(self.game, body))
        self.case.now(self.case.console.attach(self.game))
        self.case.now(self.case.engine.start(self.game))
        self.print_lines(1, 0.0)

    # ---------------------------------------------------------------- viewers

    @rule(number=st.integers(0, VIEWERS - 1), room=st.sampled_from([1, 3, 1 << 30]), resume=st.booleans())
    def connect(self, number: int, room: int, resume: bool) -> None:
        watcher = self.watchers[number]
        self.leave(number)
        since = watcher.at if resume else None
        if since is not None and not self.case.now(self.case.console.reaches(since)):
            since = None  # 400: it learns that this is not the past it knows
        wire = self.case.view(watcher.encoding, room=room, since=since, scrollback=5000)
        watcher.wire, watcher.read = wire, 0
        if since is None:
            watcher.at = wire.start
        elif watcher.outdated:
            assert wire.gaps and wire.gaps[0][0] == since, f"another past at {since}, and no gap"
        watcher.outdated = False
        self._collect(watcher)

    @rule(number=st.integers(0, VIEWERS - 1))
    def leave(self, number: int) -> None:
        watcher = self.watchers[number]
        self._collect(watcher)
        if watcher.wire is not None:
            watcher.wire.viewer.leave()
            watcher.wire = None

    @rule(number=st.integers(0, VIEWERS - 1), room=st.sampled_from([1, 2, 5, 1 << 30]))
    def take_some(self, number: int, room: int) -> None:
        watcher = self.watchers[number]
        if watcher.wire is not None:
            watcher.wire.room = room
            watcher.wire.viewer.free()
            settle(self.case.clock)
            self._collect(watcher)

    def _collect(self, watcher: Watcher) -> None:
        """What came since: each piece begins where the last ended, or a gap says otherwise."""
        frames = watcher.wire.frames[watcher.read :] if watcher.wire is not None else []
        watcher.read += len(frames)
        for frame in frames:
            assert watcher.at is not None
            if isinstance(frame, bytes):
                watcher.told.append((watcher.at, watcher.at + len(frame), frame))
                watcher.at += len(frame)
            elif frame["type"] == "output":
                assert frame["offset"] == watcher.at, f"{watcher.at} to {frame['offset']} without a gap"
                watcher.told.append((frame["offset"], frame["end"], frame["data"]))
                watcher.at = frame["end"]
            elif frame["type"] == "gap":
                assert frame["from"] == watcher.at, f"{frame} at {watcher.at}"
                assert frame["to"] is None or frame["to"] > frame["from"], frame
                watcher.at = watcher.at if frame["to"] is None else frame["to"]

    @rule(before=st.integers(0, 100_000), limit=st.sampled_from([1, 100, 5000, 262144]))
    def ask_history(self, before: int, limit: int) -> None:
        page = self.case.now(self.case.console.history(before, limit))
        self.look()
        assert page.data == self.text(page.start, page.start + len(page.data))
        assert len(page.data) <= limit

    # ---------------------------------------------------------------- what is true

    def text(self, start: int, end: int) -> bytes:
        """What the console must have at [start, end)."""
        parts = []
        for (offset, place), (until, _) in pairwise([*self.anchors, (1 << 60, 0)]):
            low, high = max(start, offset), min(end, until)
            if low < high:
                parts.append(self.printed[low - offset + place : high - offset + place])
        return b"".join(parts)

    def look(self, *, after_restart: bool = False) -> list[int]:
        """The console's own word, all it has, is what was printed, in order.

        After a restart it may say that it is not: answers where another past begins.
        """
        wire = self.case.view(Encoding.RAW, since=0)
        wire.viewer.leave()
        at, gaps, pieces = 0, list[int](), list[tuple[int, bytes]]()
        for frame in wire.frames:
            if isinstance(frame, bytes):
                pieces.append((at, frame))
                at += len(frame)
            elif frame["type"] == "gap" and frame["to"] is None:
                gaps.append(frame["from"])
            elif frame["type"] == "gap":
                at = frame["to"]
        assert at == wire.end
        new = [
            gap
            for gap, until in pairwise([*sorted(set(gaps)), wire.end])
            if after_restart and self._anchor(gap, until, pieces)
        ]
        for start, data in pieces:
            assert data == self.text(start, start + len(data)), (start, data[:100], self.text(start, start + 100))
        return new

    def _anchor(self, gap: int, until: int, pieces: list[tuple[int, bytes]]) -> bool:
        """What follows a gap goes on somewhere in what was printed, after what came before it. False: as before."""
        parts = (data[max(0, gap - start) : max(0, until - start)] for start, data in pieces if start + len(data) > gap)
        data = b"".join(parts)
        if data == self.text(gap, gap + len(data)):
            return False
        before = [anchor for anchor in self.anchors if anchor[0] < gap]
        offset, place = before[-1] if before else (0, 0)
        found = self.printed.find(data, place + gap - offset)
        assert found >= 0, f"what stands at {gap} was never printed after what stands before it"
        self.anchors = [*before, (gap, found)]
        return True

    def judge(self) -> None:
        """Everybody takes all there is; what they were told is what the console has."""
        for number in range(VIEWERS):
            self.take_some(number, 1 << 30)
        self.look()
        for watcher in self.watchers:
            for start, end, told in watcher.told:
                own = self.text(start, end)
                if isinstance(told, bytes):
                    assert told == own, (start, told[:80], own[:80])
                    continue
                assert told == own.decode("utf-8", "replace"), (start, told[:80], own[:80])
                assert not self.valid or len(self.anchors) > 1 or "\ufffd" not in told, (start, told[:80])
            watcher.told.clear()

    # ---------------------------------------------------------------- restarts

    @rule(away=st.integers(0, 3), ordered=st.booleans(), log=st.sampled_from(["good", "good", "broken", "gone"]))
    def restart(self, away: int, ordered: bool, log: str) -> None:
        self.judge()
        seen = len(self.case.everything()) + self.case.console._scrollback.first
        if ordered:
            self.case.now(self.case.rooms.consoles.stop())
        self.case.die()
        for watcher in self.watchers:
            watcher.wire = None
        for _ in range(away):
            self.print_lines(5, 0.0)
        if log == "gone" and not ordered:
            self.case.engine.crash(self.game)
        self.case.boot()
        if log == "gone" and not ordered:
            self._run()  # what the last run said at its end nobody knows any more
        else:
            self._rejoin(log)
        for gap in self.look(after_restart=True):
            for watcher in self.watchers:
                watcher.outdated |= watcher.at is not None and gap < watcher.at <= seen

    def _rejoin(self, log: str) -> None:
        engine = self.case.engine
        read = engine.logs

        async def broken(*_: Any, **__: Any) -> bytes:
            raise DockerUnavailable("no log today")

        if log == "broken":
            engine.logs = broken  # type: ignore[method-assign]
        self.case.start(self.case.console.attach(self.game, rejoin=True))
        self.print_lines(2, 0.0)
        for _ in range(60):
            settle(self.case.clock, 0.2)
        engine.logs = read  # type: ignore[method-assign]

    def teardown(self) -> None:
        self.judge()
        self.case.die()
        self.case.flushLoggedErrors()


def run_model(case: ConsoleCase, *, examples: int, steps: int) -> None:
    """Runs the model on the engine and the clock of `case`."""
    machine = type("Machine", (ConsoleMachine,), {"case": case})
    checks = list(HealthCheck)
    steps_ = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=checks,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(machine, settings=steps_)
    except AssertionError as error:  # trial does not show how it came to this
        raise AssertionError("\n".join([str(error), *getattr(error, "__notes__", [])])) from error
