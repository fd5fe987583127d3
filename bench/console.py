"""How fast the console is, beside Docker's own `attach/ws` and a raw attach on Docker's socket; prints ratios.

`python bench/console.py [--quick] [--rounds 5] [--json FILE] [--only viewers|echo|stuck]`

Two whole daemons, one of them with TLS, and containers of the engine's own run the same scripts. The ways take turns,
round by round, so that all meet the same moments; a ratio is the median of the rounds' own ratios.

viewers   a game floods, all viewers of the round read it to its last line. Rate: all bytes of all viewers over the
          time until the last one saw the end. CPU: the daemon's seconds for each GB that the game wrote.
echo      one key after another, in turns by a raw attach and at the consoles, on games that only echo: first while
          nothing else happens, then while another console of the daemon is flooded at over 20 MB/s and read along.
stuck     fifty viewers read a flood, with and without one more that never reads.

Every row has its figure, what is wanted and whether that is met; rows with no bound are there to compare. Run it where
nothing else runs: the load average is printed beside the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.readers import JSON, Background, Line, docker_ws, drink, raw_attach
from bench.stage import END, GAME, PIECE, QUIET, BenchNode, container

MB, CAP = 1_000_000, 4 * 2**20  # CAP: [console] viewer_buffer
PAUSE = 0.005  # seconds between two keys


@dataclass(frozen=True)
class Row:
    """One figure. `least` and `most` are what is wanted of it; `aim` is hoped for."""

    name: str
    figure: float
    unit: str
    least: float | None = None
    most: float | None = None
    aim: str = ""
    beside: str = ""
    load: float = 0.0

    @property
    def met(self) -> bool | None:
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.figure >= self.least) and (self.most is None or self.figure <= self.most)

    def line(self) -> str:
        wanted = f"at least {self.least}" if self.least is not None else f"at most {self.most}"
        verdict = {None: "", True: f"{wanted}: met", False: f"{wanted}: NOT MET"}[self.met]
        verdict += f" (aim {self.aim})" if self.aim else ""
        return f"{self.name:<52} {self.figure:9.2f} {self.unit:<9} {verdict:<32} {self.beside}  load {self.load:.1f}"


class Rows:
    """Prints each row as it comes and keeps it."""

    def __init__(self) -> None:
        self.found: list[Row] = []

    def add(self, name: str, figure: float, unit: str, **more: object) -> None:
        row = Row(name, figure, unit, load=os.getloadavg()[0], **more)  # type: ignore[arg-type]
        self.found.append(row)
        print(row.line(), flush=True)


@dataclass
class Way:
    """One way to a console, and what came of its rounds."""

    name: str
    connect: Callable[[], Line]
    node: BenchNode | None = None
    rates: list[float] = field(default_factory=list)  # MB/s of all viewers together
    cpu: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)  # of what the game wrote, the worst viewer's share

    def round(self, viewers: int, size: int) -> list[float]:
        """One flood; the longest pause of each viewer, in seconds."""
        lines = [self.connect() for _ in range(viewers)]
        time.sleep(0.3)
        before = self.node.cpu() if self.node else 0.0
        begun = time.perf_counter()
        size -= size % PIECE
        lines[0].type(b"flood %d\r" % (size // PIECE))
        taken = drink(lines, END, begun)
        seconds = max(one.ended for one in taken) - begun
        self.rates.append(sum(one.size for one in taken) / seconds / MB)
        self.shown.append(min(1.0, min(one.size for one in taken) / size))
        if self.node:
            time.sleep(0.1)  # what it still does for this flood is its, too
            self.cpu.append((self.node.cpu() - before) / (size / 1e9))
        for line in lines:
            line.close()
        time.sleep(0.1)
        return [one.pause for one in taken]

    def told(self) -> str:
        told = f"{statistics.median(self.rates):.1f} MB/s"
        if min(self.shown) < 1:
            told += f", {100 * (1 - min(self.shown)):.1f} % not shown to one"
        return told


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


@dataclass(frozen=True)
class Stage:
    """What all parts play on: `plain` and `tls` daemons, the engine's own `game` and `quiet` containers."""

    plain: BenchNode
    tls: BenchNode
    game: str
    quiet: str

    def ours(self) -> list[Way]:
        return [
            Way("console", lambda: self.plain.view("game"), self.plain),
            Way("console, TLS", lambda: self.tls.view("game"), self.tls),
            Way("console, JSON frames", lambda: self.plain.view("game", JSON), self.plain),
        ]


# ------------------------------------------------------------------ viewers


def viewers(stage: Stage, rows: Rows, count: int, megabytes: float, rounds: int) -> None:
    """The ratio of our rate to the way that it is to be compared with."""
    base = Way("raw attach", lambda: raw_attach(stage.game))
    if count > 1:
        base = Way("attach/ws", lambda: docker_ws(stage.game))
    ours = stage.ours()
    for number in range(rounds + 1):
        if number == 1:  # the first is to warm up
            for way in (base, *ours):
                way.rates, way.cpu, way.shown = [], [], []
        for way in (base, *ours):
            way.round(count, int(megabytes * MB))
    least, aim = {1: (0.95, ""), 10: (0.9, "")}.get(count, (2.0, "2.5"))
    who = f"{count} viewer{'s' * (count > 1)}"
    for way in ours:
        bounds = {"least": least, "aim": aim} if way is ours[0] else {}
        beside = f"{way.told()} to {base.told()}"
        rows.add(f"{who}, {way.name}, of {base.name}", ratio(way.rates, base.rates), "times", beside=beside, **bounds)
    for way in ours:
        most = {"most": 2.0} if way is ours[0] and count == 1 else {}
        rows.add(f"{who}, {way.name}, daemon's CPU", statistics.median(way.cpu), "s/GB", **most)


# ------------------------------------------------------------------ echo


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def keys(lines: Sequence[Line], count: int) -> list[list[float]]:
    """One round: milliseconds of each key's echo on each line, in turns."""
    found: list[list[float]] = [[] for _ in lines]
    for number in range(count):
        for line, echoes in zip(lines, found, strict=True):
            echoes.append(line.echo(b"abcdefghij"[number % 10 : number % 10 + 1]) * 1e3)
            time.sleep(PAUSE)
        if number % 64 == 63:  # the terminal's line is not endless
            for line in lines:
                line.type(b"\r")
                line.settle()
    for line in lines:
        line.type(b"\r")
        line.settle()
    return found


def echo(stage: Stage, rows: Rows, count: int, rounds: int) -> None:
    """p50 while nothing else happens, p99 under a flood of another console."""
    lines = [raw_attach(stage.quiet), stage.plain.view("quiet"), stage.tls.view("quiet")]
    for line in lines:
        line.settle()
    names = ("console", "console, TLS")
    idle = [keys(lines, count) for _ in range(rounds)]
    halves = [[percentile(one[way], 0.5) for one in idle] for way in range(3)]
    for way, name in enumerate(names, 1):
        most = {"most": 1.8} if way == 1 else {}
        beside = f"{statistics.median(halves[way]):.2f} ms to {statistics.median(halves[0]):.2f} ms"
        rows.add(
            f"echo p50, idle, {name}, of raw attach", ratio(halves[way], halves[0]), "times", beside=beside, **most
        )
    for node, way, name in ((stage.plain, 1, names[0]), (stage.tls, 2, names[1])):
        under_flood(node, rows, [lines[0], lines[way]], name, count, rounds)
    for line in lines:
        line.close()


def under_flood(node: BenchNode, rows: Rows, lines: Sequence[Line], name: str, count: int, rounds: int) -> None:
    torrent = node.view("torrent")
    torrent.type(b"go\r")
    reading = Background([torrent])
    time.sleep(2)
    before, since = reading.taken()
    mosts: list[tuple[float, float]] = []
    for _ in range(rounds):
        raw, ours = keys(lines, count)
        mosts.append((percentile(ours, 0.99), percentile(raw, 0.99)))
    after, until = reading.taken()
    reading.stop()
    torrent.close()
    node.run("server.kill", serverId="torrent")
    rate = (after - before) / (until - since) / MB
    ours_p99, raw_p99 = (statistics.median(pair[side] for pair in mosts) for side in (0, 1))
    bounds = {"most": 3.0} if not node.tls else {}
    beside = f"{ours_p99:.2f} ms to {raw_p99:.2f} ms under {rate:.1f} MB/s"
    value = ratio([pair[0] for pair in mosts], [pair[1] for pair in mosts])
    rows.add(f"echo p99, flooded, {name}, of raw attach", value, "times", beside=beside, aim="5 ms", **bounds)
    rows.add(f"flood beside that echo, {name}", rate, "MB/s", **({"least": 20.0} if not node.tls else {}))


# ------------------------------------------------------------------ one that never reads


def stuck(stage: Stage, rows: Rows, count: int, megabytes: float, rounds: int) -> None:
    """The others' rate, the daemon's memory and the game's progress, with and without one that never reads."""
    for way in stage.ours()[:2]:
        node = way.node
        assert node is not None
        rates: tuple[list[float], list[float]] = ([], [])
        memory: tuple[list[float], list[float]] = ([], [])
        pauses: tuple[list[float], list[float]] = ([], [])
        way.round(count, int(megabytes * MB))
        for _ in range(rounds):
            for with_it in (0, 1):
                with contextlib.closing(way.connect()) if with_it else contextlib.nullcontext(), node.largest() as most:
                    pauses[with_it].append(min(way.round(count, int(megabytes * MB))))
                rates[with_it].append(way.rates[-1])
                memory[with_it].append(most[0] / 2**20)
        bounds = way.name == "console"
        beside = f"{statistics.median(rates[1]):.1f} to {statistics.median(rates[0]):.1f} MB/s"
        who = f"one of {count} never reads, {way.name}"
        rows.add(f"{who}, the others' rate", ratio(rates[1], rates[0]), "times", beside=beside, aim="0.95",
                 **({"least": 0.9} if bounds else {}))  # fmt: skip
        grown = max(memory[1]) - max(memory[0])
        rows.add(f"{who}, more memory", grown, "MiB", beside=f"{max(memory[1]):.1f} to {max(memory[0]):.1f} MiB",
                 **({"most": CAP / 2**20} if bounds else {}))  # fmt: skip
        rows.add(f"{who}, longest pause of the game", max(pauses[1]), "s", beside=f"without it {max(pauses[0]):.2f} s",
                 **({"most": 1.0} if bounds else {}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("viewers", "echo", "stuck"), action="append", help="may repeat")
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--megabytes", type=float, default=64, help="of a flood for one viewer; fewer for more of them")
    parser.add_argument("--keys", type=int, default=200, help="a round")
    parser.add_argument(
        "--rate", type=float, default=80, help="MB/s of the flood beside the echo, if nothing slowed it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the rows as JSON, too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.megabytes, options.keys = 2, 8, 50
    parts = options.only or ["viewers", "echo", "stuck"]
    rows = Rows()
    print(f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    with contextlib.ExitStack() as opened:
        nodes = [BenchNode(tls=tls, rate=options.rate) for tls in (False, True)]
        for node in nodes:
            opened.callback(node.close)
        for node in nodes:
            node.play()
        stage = Stage(nodes[0], nodes[1], *(opened.enter_context(container(script)) for script in (GAME, QUIET)))
        if "viewers" in parts:
            for count in options.viewers:
                viewers(stage, rows, count, max(2.0, options.megabytes / count**0.5), options.rounds)
        if "echo" in parts:
            echo(stage, rows, options.keys, options.rounds)
        if "stuck" in parts:
            stuck(stage, rows, 50, max(4.0, options.megabytes / 4), options.rounds)
    if options.json is not None:
        found = [{**asdict(row), "met": row.met} for row in rows.found]
        options.json.write_text(json.dumps({"rounds": options.rounds, "rows": found}, indent=1) + "\n")
    missed = [row.name for row in rows.found if row.met is False]
    print(f"{len(missed)} of {sum(row.met is not None for row in rows.found)} bounds not met" if missed else "all met")


if __name__ == "__main__":
    main()
