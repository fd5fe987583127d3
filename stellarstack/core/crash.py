"""Whether a server that ended by itself comes back, when, and what most likely ended it. Performs no I/O.

Knows no clock: times are Unix seconds handed in. PROTOCOL 12, `crash`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BACKOFF_FIRST = 1.0
BACKOFF_MOST = 60.0


@dataclass(frozen=True, slots=True)
class CrashPolicy:
    """At most `limit` restarts in any `window` seconds; an exit with 0 counts as a crash only with `on_clean_exit`."""

    restart: bool = True
    limit: int = 3
    window: float = 600.0
    on_clean_exit: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended without being asked to."""

    exit_code: int
    oom_killed: bool = False

    @property
    def clean(self) -> bool:
        return self.exit_code == 0 and not self.oom_killed


@dataclass(frozen=True, slots=True)
class CrashVerdict:
    """`crashed`: it is no clean end. `restart_after`: seconds until the next start, None where there is none."""

    crashed: bool
    restart_after: float | None
    why: str


def judge(policy: CrashPolicy, ending: Ending, history: Sequence[float], now: float) -> CrashVerdict:
    """What follows an end nobody asked for. `history`: when the earlier crash restarts of this server were done."""
    crashed = not ending.clean
    if not crashed and not policy.on_clean_exit:
        return CrashVerdict(False, None, "it ended by itself with exit code 0")
    if not policy.restart:
        return CrashVerdict(crashed, None, "its crash policy does not restart")
    recent = in_window(policy, history, now)
    if len(recent) >= policy.limit:
        return CrashVerdict(crashed, None, f"it was restarted {len(recent)} times within {policy.window:g} s")
    return CrashVerdict(crashed, backoff(len(recent)), f"restart {len(recent) + 1} of {policy.limit}")


def in_window(policy: CrashPolicy, history: Iterable[float], now: float) -> tuple[float, ...]:
    """The restarts that still count. One from the future (the clock was set back) counts as of now."""
    return tuple(time for time in history if now - time < policy.window)


def backoff(restarts: int) -> float:
    """Seconds before the next restart after so many within the window: 1, 2, 4 … 60."""
    return float(min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(restarts, 10)))


@dataclass(frozen=True, slots=True)
class KnownCause:
    """A cause that people know, told by the last lines. `hint` says what mends it."""

    code: str
    hint: str


_CAUSES: tuple[tuple[re.Pattern[str], KnownCause], ...] = (
    (
        re.compile(r"(?i)address already in use|failed to bind to port|EADDRINUSE|perhaps a server is already running"),
        KnownCause("port_in_use", "another program holds the port: choose another one or stop its holder"),
    ),
    (
        re.compile(r"(?i)you need to agree to the EULA|eula\.txt for more"),
        KnownCause("eula", "the game's EULA is not accepted: set eula=true in eula.txt"),
    ),
    (
        re.compile(r"UnsupportedClassVersionError|(?i:compiled by a more recent version of the java runtime)"),
        KnownCause("wrong_java", "the program needs a newer Java: choose an image with one"),
    ),
    (
        re.compile(
            r"(?i)unsupported java detected|only supports java|please (?:use|upgrade to) java \d|requires? java \d"
        ),
        KnownCause("wrong_java", "the program does not run on this Java: choose an image with the version it names"),
    ),
    (
        re.compile(r"(?i)no space left on device|ENOSPC|disk quota exceeded|not enough (?:free )?disk space"),
        KnownCause("no_space", "the disk or the server's share of it is full: free some space or raise the limit"),
    ),
    (
        re.compile(r"(?i)java\.lang\.OutOfMemoryError|std::bad_alloc|cannot allocate memory|heap out of memory"),
        KnownCause("out_of_memory", "the program ran out of memory: raise the limit or lower what it may take"),
    ),
    (
        re.compile(r"(?i)unable to create (?:new )?native thread|fork: (?:retry: )?resource temporarily unavailable"),
        KnownCause("pid_limit", "the program ran into the limit of processes and threads: raise pids"),
    ),
    (
        re.compile(r"(?i)unable to access jarfile|no such file or directory.*\.jar"),
        KnownCause("missing_program", "the program's file is not there: install the server again or mend its name"),
    ),
    (
        re.compile(r"(?i)exec format error"),
        KnownCause("wrong_architecture", "the program was built for another processor"),
    ),
)
_LINE_MOST = 2000


def known_cause(lines: Sequence[str], *, oom_killed: bool = False, exit_code: int | None = None) -> KnownCause | None:
    """The cause that the newest telling line names; escape codes are expected to be gone. None: nothing is known."""
    if oom_killed:
        return KnownCause("oom", "the server used more memory than its limit and was killed: raise the limit")
    for line in reversed(lines):
        for pattern, cause in _CAUSES:
            if pattern.search(line[:_LINE_MOST]):
                return cause
    if exit_code == 127:
        return KnownCause("missing_program", "the startup command names a program that the image does not have")
    return None
