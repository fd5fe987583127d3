"""One container of the FakeEngine: its state, its terminal and the scripted program it runs."""

from __future__ import annotations

import signal as signals
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from stellarstack.core.records import PtySize
from stellarstack.errors import EngineRefused
from stellarstack.interfaces import ContainerState, OutputSink

if TYPE_CHECKING:
    from tests.fake_engine import FakeEngine

LOGS_MAX = 16 << 20
PIECE_MAX = 256 << 10
HELD_MAX = 64 << 10
LINE_MAX = 4095
MEMORY_LEAST = 6 << 20


def signal_number(name: str) -> int | None:
    """`SIGTERM`, `TERM` or `15` as a number; None where there is no such signal."""
    if name.isdecimal():
        return int(name) if 0 < int(name) <= 64 else None
    found = getattr(signals, name if name.startswith("SIG") else f"SIG{name}", None)
    return int(found) if isinstance(found, signals.Signals) else None


@dataclass
class Program:
    """What a container runs. The fields tell a simple one; override the methods for another.

    `output` is printed at the start. `replies`: line typed -> text to print, or the exit status to end with. `signals`:
    signal -> exit status; one that is not in there is ignored, as a process with pid 1 does. `delay`: seconds between
    being told to end (by a line or a signal) and the end. `exit_after` seconds it ends by itself, with `exit_code`.
    """

    output: str = ""
    replies: Mapping[str, str | int] = field(default_factory=dict)
    signals: Mapping[str, int] = field(default_factory=lambda: {"SIGTERM": 143, "SIGINT": 130})
    delay: float = 0.0
    exit_after: float | None = None
    exit_code: int = 0

    def on_start(self, process: Process) -> None:
        process.print(self.output)
        if self.exit_after is not None:
            process.exit(self.exit_code, after=self.exit_after)

    def on_input(self, process: Process, line: str) -> None:
        """A line was typed (without its end)."""
        reply = self.replies.get(line)
        if isinstance(reply, int):
            process.exit(reply, after=self.delay)
        elif reply is not None:
            process.print(reply)

    def on_signal(self, process: Process, signal: str) -> None:
        """`SIGTERM` and the like; SIGKILL never arrives here."""
        if signal in self.signals:
            process.exit(self.signals[signal], after=self.delay)

    def on_resize(self, process: Process, size: PtySize) -> None: ...


class Process:
    """A running program's hold on its container."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._timers: list[IDelayedCall] = []
        self.size = PtySize()

    @property
    def alive(self) -> bool:
        return self._container.process is self

    def print(self, text: str | bytes) -> None:
        """Prints to the container's terminal, which turns `\\n` into `\\r\\n` where it is one."""
        data = text.encode() if isinstance(text, str) else text
        if self.alive and data:
            self._container.output(data.replace(b"\n", b"\r\n") if self._container.tty else data)

    def exit(self, code: int, after: float = 0.0) -> None:
        """Ends, at once or `after` so many seconds of the engine's clock."""
        if after > 0:
            self.after(after, lambda: self.exit(code))
        elif self.alive:
            self._container.end(code)

    def oom(self) -> None:
        """The kernel kills it for want of memory."""
        if self.alive:
            self._container.end(137, oom=True)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls later, if the program still runs then."""
        self._timers.append(self._container.engine.clock.callLater(seconds, call))

    def ended(self) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()


class Attached:
    """An attach of the FakeEngine. `Attachment` of the seam."""

    def __init__(self, container: Container, sink: OutputSink) -> None:
        self._container = container
        self._sink: OutputSink | None = sink

    def write(self, data: bytes) -> None:
        if self._sink is not None:
            self._container.typed(data)

    def close(self) -> None:
        """As over a real socket, `output_ended` comes a moment later."""
        sink, self._sink = self._sink, None
        if sink is not None:
            if self in self._container.attached:
                self._container.attached.remove(self)
            self._container.engine.clock.callLater(0, sink.output_ended)

    def output(self, data: bytes) -> None:
        for at in range(0, len(data), PIECE_MAX):
            if self._sink is not None:
                self._sink.output_received(data[at : at + PIECE_MAX])

    def drop(self) -> None:
        """The engine's side ends it."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.output_ended()


class Terminal:
    """The line discipline of a PTY in its usual mode: echo, Enter, backspace, Ctrl-C, Ctrl-U."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, str | None, str | None]]:
        """(echo, line entered or None, signal or None) for each byte that does something."""
        return [done for byte in data if (done := self._byte(byte)) is not None]

    def _byte(self, byte: int) -> tuple[bytes, str | None, str | None] | None:
        if byte in (10, 13):
            line, self._line = self._line.decode("utf-8", "replace"), bytearray()
            return b"\r\n", line, None
        if byte == 3:
            self._line.clear()
            return b"^C", None, "SIGINT"
        if byte == 28:
            self._line.clear()
            return b"^\\", None, "SIGQUIT"
        if byte == 21:
            echo, self._line = b"\b \b" * len(self._line), bytearray()
            return echo, None, None
        if byte in (8, 127):
            if not self._line:
                return None
            del self._line[-1]
            return b"\b \b", None, None
        if len(self._line) >= LINE_MAX:
            return None
        self._line.append(byte)
        return bytes([byte]) if byte >= 32 or byte == 9 else b"^" + bytes([byte + 64]), None, None


class Log:
    """The engine's own copy of the output: whole lines, each with its time; the newest 16 MiB."""

    def __init__(self) -> None:
        self._lines: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._open = b""

    def add(self, now: float, data: bytes) -> None:
        *lines, self._open = (self._open + data).split(b"\n")
        for line in lines:
            self._lines.append((now, line + b"\n"))
            self._size += len(line) + 1
        while self._size > LOGS_MAX:
            self._size -= len(self._lines.popleft()[1])

    def finish(self, now: float) -> None:
        """The container ended: its last line is written even without an end."""
        if self._open:
            self.add(now, b"\n")

    def read(self, since: float | None, tail: int | None) -> bytes:
        lines = [line for time, line in self._lines if since is None or time >= since]
        return b"".join(lines if tail is None else lines[max(0, len(lines) - tail) :])


class Container:
    """State and life of one container."""

    def __init__(self, engine: FakeEngine, container_id: str, name: str, body: Mapping[str, Any]) -> None:
        self.engine = engine
        self.id = container_id
        self.name = name
        self.body = body
        self.tty = bool(body.get("Tty"))
        self.labels: dict[str, str] = dict(body.get("Labels") or {})
        self.host: Mapping[str, Any] = body.get("HostConfig") or {}
        self.status = "created"
        self.exit_code = 0
        self.oom_killed = False
        self.error = ""
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.pid = 0
        self.addresses: dict[str, str] = {}
        self.log = Log()
        self.attached: list[Attached] = []
        self.waiters: list[Deferred[int]] = []
        self.process: Process | None = None
        self.program = Program()
        self._terminal = Terminal()
        self._held = b""

    @property
    def running(self) -> bool:
        return self.process is not None

    def state(self) -> ContainerState:
        """As inspect tells it."""
        return ContainerState(
            id=self.id, name=self.name, status=self.status, running=self.running, pid=self.pid,
            exit_code=self.exit_code, oom_killed=self.oom_killed, error=self.error, started_at=self.started_at,
            finished_at=self.finished_at, labels=dict(self.labels), image=str(self.body["Image"]),
            addresses=dict(self.addresses),
        )  # fmt: skip

    def row(self) -> ContainerState:
        """As the list tells it: exit status and times are not filled."""
        return ContainerState(
            id=self.id, name=self.name, status=self.status, running=self.running, pid=0, exit_code=0,
            oom_killed=False, error="", started_at=None, finished_at=None, labels=dict(self.labels),
            image=str(self.body["Image"]), addresses=dict(self.addresses),
        )  # fmt: skip

    def begin(self, pid: int, program: Program) -> None:
        """Runs `program` from its start."""
        self.status, self.exit_code, self.oom_killed, self.error = "running", 0, False, ""
        self.started_at, self.finished_at, self.pid = self.engine.now(), None, pid
        self._terminal = Terminal()
        self.program = program
        self.process = Process(self)
        self.engine.emit(self, "start")
        if self.process is not None:
            program.on_start(self.process)

    def update(self, body: Mapping[str, Any]) -> list[str]:
        """Other limits. 0 is no change; the memory of both kinds must fit together."""
        changed = {key: value for key, value in body.items() if value}
        memory = changed.get("Memory", self.host.get("Memory", 0))
        both = changed.get("MemorySwap", self.host.get("MemorySwap", 0))
        if 0 < changed.get("Memory", MEMORY_LEAST) < MEMORY_LEAST:
            raise EngineRefused("Docker: Minimum memory limit allowed is 6MB")
        if 0 < both < memory:
            raise EngineRefused("Docker: Minimum memoryswap limit should be larger than memory limit, see usage")
        if changed.get("PidsLimit", 0) < 0:
            changed["PidsLimit"] = 0
        self.host = {**self.host, **changed}
        return []

    def output(self, data: bytes) -> None:
        """What the program printed. While dockerd is away it waits in the pipe, which is short."""
        if self.engine.down:
            self._held = (self._held + data)[:HELD_MAX]
            return
        self.log.add(self.engine.now(), data)
        for attached in list(self.attached):
            attached.output(data)

    def typed(self, data: bytes) -> None:
        """Keystrokes of an attach."""
        if self.engine.down or not self.body.get("OpenStdin"):
            return
        echoed = b""
        for echo, line, signal in self._terminal.feed(data):
            echoed += echo
            if line is None and signal is None:
                continue
            self._echo(echoed)
            echoed = b""
            self._act(line, signal)
        self._echo(echoed)

    def _echo(self, data: bytes) -> None:
        if self.tty and self.process is not None and data:
            self.output(data)

    def _act(self, line: str | None, signal: str | None) -> None:
        process = self.process
        if process is None:
            return
        if line is not None:
            self.program.on_input(process, line)
        elif signal is not None and self.tty:
            self.program.on_signal(process, signal)

    def end(self, code: int, oom: bool = False) -> None:
        """The program is over: state first, then attaches, event and waits, as dockerd does it."""
        process, self.process = self.process, None
        if process is None:
            return
        process.ended()
        self.status, self.exit_code, self.oom_killed, self.pid = "exited", code, oom, 0
        self.finished_at, self.addresses = self.engine.now(), {}
        if self.engine.down:
            return
        self.log.finish(self.engine.now())
        self.drop_attached()
        if oom:
            self.engine.emit(self, "oom")
        self.engine.emit(self, "die", exitCode=str(code))
        self.answer_waits()
        if self.host.get("AutoRemove"):
            self.engine.forget(self)

    def drop_attached(self) -> None:
        attached, self.attached = self.attached, []
        for one in attached:
            one.drop()

    def answer_waits(self) -> None:
        for waiter in self.take_waits():
            waiter.callback(self.exit_code)

    def take_waits(self) -> list[Deferred[int]]:
        waiters, self.waiters = self.waiters, []
        return waiters

    def read_held(self) -> None:
        """dockerd is back: what waited in the pipe is logged, and what ended meanwhile is finished."""
        held, self._held = self._held, b""
        self.log.add(self.engine.now(), held)
        if not self.running:
            self.log.finish(self.engine.now())
