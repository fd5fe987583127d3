"""Takes up a console again whose container printed while nobody listened (PROTOCOL 8, DESIGN fact 15).

The PTY is attached first and what it says is held back; then the engine's log is read until it is proved what came in
between. Whole lines from the log are shown as soon as they are proved; where there is no proof, there is one gap.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.console.notes import Notes, Run
from stellarstack.console.scrollback import Scrollback
from stellarstack.console.threads import InThread
from stellarstack.core.log_join import Joined, Kept, Unproved, join
from stellarstack.errors import StellarError
from stellarstack.interfaces import Engine
from stellarstack.tasks import sleep, within

_SETTLE = 0.1  # seconds in which the engine's log has what its attach has shown
_PATIENCE = 2.0  # seconds of live output that are held back for a proof, at most
_HELD_MOST = 4 << 20  # bytes of it, at most
_READ_TIMEOUT = 20.0
_READINGS = 4  # of a log that cannot be read
_WHOLE_BELOW, _LINE_COSTS = 512 * 1024, 64  # the engine rotates its log at 1 MiB at least, its own framing included


def kept_of(run: Run, notes: Notes, scrollback: Scrollback) -> tuple[Kept, bool]:
    """What the scrollback has of the newest run; whether it is known how much came before that."""
    tail, end = scrollback.tail(), scrollback.end
    gaps = [gap for gap in notes.gaps if gap >= run.offset]
    begins = max(end - len(tail), gaps[-1] if gaps else run.offset)
    tail = tail[len(tail) - (end - begins) :]
    return Kept(tail, begins - run.offset + (1 if gaps else 0)), not gaps


class Rejoin:
    """One joining. `append` and `gap` are called in order with what is proved, `proved` where there is no gap.

    `counted`: how many bytes the run printed before is known, not only its newest ones.
    """

    _log = Logger()

    def __init__(
        self, *, container: str, kept: Kept, counted: bool, engine: Engine, clock: IReactorTime, in_thread: InThread,
        append: Callable[[bytes], None], gap: Callable[[], None], proved: Callable[[], None],
    ) -> None:  # fmt: skip
        self._container = container
        self._kept = kept
        self._counted = counted
        self._engine = engine
        self._clock = clock
        self._in_thread = in_thread
        self._append = append
        self._gap = gap
        self._said_proved = proved
        self._live = bytearray()
        self._live_since: float | None = None
        self._ended = False
        self._over = False
        self._tries = 0
        self._from_log = 0  # bytes of what is kept that the log told since the PTY is held
        self._news: Deferred[None] | None = None

    # ---------------------------------------------------------------- told by the attach

    def held_back(self, data: bytes) -> None:
        """Live output, not shown before what came in between is known."""
        self._live += data
        if self._live_since is None:
            self._live_since = self._clock.seconds()
        if len(self._live) > _HELD_MOST:
            self.give_up()
        else:
            self._tell()

    def attach_ended(self) -> None:
        """Nothing more comes live."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            news, self._news = self._news, None
            news.callback(None)

    # ---------------------------------------------------------------- the joining

    @property
    def over(self) -> bool:
        """Whether output may go straight on."""
        return self._over

    def give_up(self) -> None:
        """No proof: one gap, then what was held back."""
        if not self._over:
            self._gap()
            self._finish()

    def abandon(self) -> None:
        """The daemon stops: what was held back stands in the engine's log, and the next start finds it there."""
        self._over = True
        self._live.clear()
        self._tell()

    def _finish(self) -> None:
        self._over = True
        live = bytes(self._live)
        self._live.clear()
        if live:
            self._append(live)
        self._tell()

    async def catch_up(self) -> None:
        """The first reading: whole lines printed meanwhile are shown when this answers, or there is a gap."""
        await self._try()

    async def follow(self) -> None:
        """Goes on until the live output is joined too; a console where nothing is printed waits for its first line."""
        while not self._over:
            if not self._live:
                if self._ended:
                    await self._try()
                    if not self._over and not self._live:
                        self._said_proved()
                        self._finish()
                    continue
                self._news = Deferred()
                await self._news
            elif b"\n" not in self._live and not self._too_late():
                await sleep(self._clock, _SETTLE / 2)
            else:
                await self._try()

    def _too_late(self) -> bool:
        return self._ended or (
            self._live_since is not None and self._clock.seconds() - self._live_since >= _PATIENCE
        )  # fmt: skip

    async def _try(self) -> None:
        seen = bytes(self._live)
        late = self._too_late()
        if seen:
            await sleep(self._clock, _SETTLE * 2 ** min(self._tries, 3))
            self._tries += 1
        quiet = len(self._live) == len(seen)
        log = await self._read_log()
        if self._over:
            return
        if log is None:
            self.give_up()
            return
        quiet = quiet and len(self._live) == len(seen)
        whole = self._counted and len(log) + _LINE_COSTS * log.count(b"\n") < _WHOLE_BELOW
        found = await self._in_thread(
            lambda kept: join(kept, log, seen, complete=whole, quiet=quiet, from_log=self._from_log), self._kept
        )
        if self._over:
            return
        if isinstance(found, Joined):
            self._proved(found)
        elif isinstance(found, Unproved) and (found.hopeless or late):
            self.give_up()

    def _proved(self, found: Joined) -> None:
        if found.missing:
            self._append(found.missing)
        if found.live_follows:
            del self._live[: found.repeated]
            self._said_proved()
            self._finish()
        elif found.missing:
            self._kept = Kept(self._kept.tail + found.missing, self._kept.start)
            self._from_log += len(found.missing)

    async def _read_log(self) -> bytes | None:
        for attempt in range(_READINGS):
            try:
                reading = self._engine.logs(self._container)
                return await within(self._clock, _READ_TIMEOUT, "reading the engine's log", reading)
            except StellarError as error:
                reason = str(error)
                if not error.retry:
                    break
                await sleep(self._clock, 0.25 * 2**attempt)
                if self._over:
                    break
        self._log.warn("the log of {container} cannot be read: {reason}", container=self._container, reason=reason)
        return None
