"""Joins a console that was let go to the engine's log: which bytes came in between, or that nobody knows. No I/O.

The daemon was away (a crash, a restart of it or of the engine) while a container printed. What is known afterwards:
`kept`, the run's bytes in the scrollback up to where they end; the engine's log of the run, whole lines, perhaps
rotated at its start (DESIGN, fact 15); `live`, what came since the PTY was taken again, before the log was read.
An answer is a proof under two rules of the engine: its log holds each line that ended before it was read, and its
lines follow one another without holes. Where there is none the caller says so with one `gap` (PROTOCOL 8).
"""

from __future__ import annotations

from dataclasses import dataclass

NEEDLE = 65536  # bytes of live output that are enough to tell its place in a log
EVIDENCE = 4096  # a log that may have lost its start must agree with the scrollback over at least this many bytes
PLACES = 64  # so many places are looked at; more say that the output repeats itself too much for a proof


@dataclass(frozen=True, slots=True)
class Kept:
    """The end of a run's output as the scrollback has it; `start` is its first byte's place in the run."""

    tail: bytes
    start: int

    @property
    def end(self) -> int:
        """How many bytes the run had printed when it was last heard."""
        return self.start + len(self.tail)


@dataclass(frozen=True, slots=True)
class Joined:
    """Proved: `missing` follows what is kept. `live_follows`: and then everything live, with nothing in between.

    The first `repeated` bytes of what is live are kept already: the log told them before the PTY did.
    """

    missing: bytes
    live_follows: bool
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Unproved:
    """No proof. `hopeless`: more output cannot bring one."""

    hopeless: bool


def join(
    kept: Kept, log: bytes, live: bytes, *, complete: bool, quiet: bool = False, from_log: int = 0
) -> Joined | Unproved:
    """What the log says came between `kept` and `live`.

    `from_log`: so many bytes at the end of what is kept were taken from the log since the PTY is held, which may say
    them again. `complete`: the log is known to begin with the run. `quiet`: nothing came live between some moment
    before the log was read and now, so that the log ends with the last whole line of `live`.
    """
    place = _end_of_kept(kept, log, complete)
    if place is None:
        return Unproved(hopeless=True)
    if not live:
        return Joined(log[place:], False)
    ended = live.rfind(b"\n") + 1
    if not ended:
        return Unproved(hopeless=False)
    begins = _start_of_live(log, max(0, place - from_log), live[:ended], quiet)
    if begins is None or begins + ended < place:
        return Unproved(hopeless=False)
    return Joined(log[place:begins], True, max(0, place - begins))


def _end_of_kept(kept: Kept, log: bytes, complete: bool) -> int | None:
    """Where in the log the first byte stands that is not kept; at most its length: an unfinished line is not in it."""
    if not kept.end:
        return 0 if complete else None
    if complete and _agrees(kept, log, kept.end):
        return min(kept.end, len(log))
    if not kept.start and log.startswith(kept.tail) and log.find(kept.tail, 1) < 0:
        return kept.end
    return _by_content(kept, log)


def _agrees(kept: Kept, log: bytes, place: int) -> bool:
    """Whether the log, if the kept bytes ended at `place` in it, says the same wherever both have something.

    Where the log ends before `place`, what is kept beyond it must be one unfinished line.
    """
    both = len(kept.tail) - max(0, place - len(log))
    if both <= 0 or b"\n" in kept.tail[both:]:
        return False
    start = place - len(kept.tail)
    return log.startswith(kept.tail[max(0, -start) : both], max(0, start))


def _by_content(kept: Kept, log: bytes) -> int | None:
    """The one place where the log agrees with the end of what is kept, over enough bytes."""
    if len(kept.tail) < EVIDENCE:
        return None
    places = _ends_of(log, kept.tail[-EVIDENCE:])
    beyond = len(kept.tail) - (kept.tail.rfind(b"\n") + 1)
    if beyond and min(len(kept.tail) - beyond, len(log)) >= EVIDENCE:
        places.append(len(log) + beyond)
    if len(places) > PLACES:
        return None
    agreeing = [place for place in places if _agrees(kept, log, place)]
    return min(agreeing[0], len(log)) if len(agreeing) == 1 else None


def _ends_of(log: bytes, needle: bytes) -> list[int]:
    """Where `needle` ends in the log, one more than PLACES at most."""
    places: list[int] = []
    at = log.find(needle)
    while at >= 0 and len(places) <= PLACES:
        places.append(at + len(needle))
        at = log.find(needle, at + 1)
    return places


def _start_of_live(log: bytes, earliest: int, lines: bytes, quiet: bool) -> int | None:
    """Where in the log, at or after `earliest`, the whole lines that came live begin."""
    if quiet:
        begins = len(log) - len(lines)
        return begins if begins >= earliest and log.endswith(lines) else None
    needle = lines[:NEEDLE]
    begins = log.find(needle, earliest)
    return begins if begins >= 0 and log.find(needle, begins + 1) < 0 else None
