"""How a server is asked to end, from the word of its blueprint to the steps, one by one. Performs no I/O.

PROTOCOL 12 (`stop_command`) and EGGS.md 2. A Ctrl-C goes into the terminal first, since the terminal hands it to
whatever runs in the foreground, and only then follows as a signal to the container's first process.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

CONTROL_BYTE_GRACE = 2.0
KILL_GRACE = 5.0
_KNOWN_SIGNALS = frozenset(item.name for item in signal.Signals)


class StopKind(Enum):
    """COMMAND: a line typed into the console. CONTROL: a control key, `value` its letter. SIGNAL: `value` its name."""

    COMMAND = "command"
    CONTROL = "control"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class StopMethod:
    """What a blueprint names as the way to stop."""

    kind: StopKind = StopKind.SIGNAL
    value: str = "SIGTERM"

    @property
    def signal(self) -> str:
        """The signal that says the same: the container's `StopSignal`, and what is sent where no terminal is there."""
        if self.kind is StopKind.SIGNAL:
            return self.value
        return "SIGINT" if self.kind is StopKind.CONTROL else "SIGTERM"

    def is_typed(self, line: str) -> bool:
        """Whether somebody who enters `line` in the console has stopped the server by it."""
        return self.kind is StopKind.COMMAND and line.strip() == self.value.strip() != ""


def parse_stop(text: str, *, egg: bool) -> StopMethod:
    """Reads `stop_command` or an egg's `config.stop`. Nothing is refused: an unknown signal becomes SIGTERM.

    In an egg a word without a caret is always a console command; in a native blueprint `SIGINT` is a signal.
    """
    word = text.strip()
    if not word:
        return StopMethod()
    if not word.startswith("^"):
        if not egg and word in _KNOWN_SIGNALS:
            return StopMethod(StopKind.SIGNAL, word)
        return StopMethod(StopKind.COMMAND, text.strip("\r\n"))
    key = word.lstrip("^").upper()
    if re.fullmatch(r"[A-Z]", key):
        return StopMethod(StopKind.CONTROL, key)
    name = key if key.startswith("SIG") else f"SIG{key}"
    return StopMethod(StopKind.SIGNAL, name if name in _KNOWN_SIGNALS else "SIGTERM")


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """Type `text` and Enter into the PTY."""

    text: str


@dataclass(frozen=True, slots=True)
class ControlByte:
    """Press a control key: one byte into the PTY."""

    byte: bytes


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the container's first process."""

    name: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait at most so many seconds for the container's end; the next step follows only where it has not ended."""

    seconds: float


StopStep: TypeAlias = ConsoleLine | ControlByte | Signal | Wait


def stop_steps(method: StopMethod, timeout: float) -> tuple[StopStep, ...]:
    """The whole escalation: SIGTERM after `timeout` seconds, SIGKILL five seconds later. A timeout of 0 kills."""
    if timeout <= 0 or method == StopMethod(StopKind.SIGNAL, "SIGKILL"):
        return (Signal("SIGKILL"),)
    end: tuple[StopStep, ...] = (Signal("SIGTERM"), Wait(KILL_GRACE), Signal("SIGKILL"))
    if method.kind is StopKind.COMMAND:
        return (ConsoleLine(method.value), Wait(timeout), *end)
    if method.kind is StopKind.SIGNAL:
        return (Signal(method.value), Wait(timeout), *end)
    byte = ControlByte(bytes([ord(method.value) & 0x1F]))
    if timeout <= CONTROL_BYTE_GRACE:
        return (byte, Wait(timeout), *end)
    return (byte, Wait(CONTROL_BYTE_GRACE), Signal("SIGINT"), Wait(timeout - CONTROL_BYTE_GRACE), *end)
