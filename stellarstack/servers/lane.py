"""One lane per game server: its works run one at a time in order of arrival; server.kill overtakes (PROTOCOL 4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger

from stellarstack.core.messages import Json
from stellarstack.errors import Cancelled, Expired, InvalidState, StellarError
from stellarstack.tasks import Tasks


class Step(Protocol):
    """What a work tells of itself while it runs."""

    @property
    def begun(self) -> bool:
        """Whether it has done something, in this life of the daemon or in the one before."""

    @property
    def overtook_arrival(self) -> bool:
        """Whether it ended a server.create, which has taken back what it had made."""

    async def begin(self) -> None:
        """Called right before the first effect: errors before it are refusals, after it failures."""

    def only_waits(self) -> None:
        """From now on the work only waits for the game: others may have its slot, and a stop may end the wait.

        Cancelled: such a stop is waiting already.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a work ended: `result` where it succeeded, else `error`; `begun`: it had done something."""

    result: Mapping[str, Json] | None
    error: StellarError | None
    begun: bool


def _nobody() -> None:
    """A work outside all lanes has no slot to give, and nobody behind it."""


@dataclass(eq=False, slots=True)
class Work:
    """One thing to do in a lane. Meets Step.

    `yields`: server.kill ends it or takes it away. `overtakes`: it is such a kill. `ends_waits`: a start before it that
    only waits for its ready check does not wait on. `heavy`: it takes one of the node's slots. `arrival`: its server
    may not be here before it.
    """

    name: str
    perform: Callable[[Step], Awaitable[Mapping[str, Json]]]
    settle: Callable[[Outcome], Coroutine[Any, Any, None]]
    note_begin: Callable[[], Awaitable[None]]
    expires_at: float | None = None
    yields: bool = False
    overtakes: bool = False
    ends_waits: bool = False
    heavy: bool = True
    arrival: bool = False
    overtook_arrival: bool = False
    begun: bool = False
    on_wait: Callable[[], None] = _nobody

    async def begin(self) -> None:
        if not self.begun:
            await self.note_begin()
            self.begun = True

    def only_waits(self) -> None:
        self.on_wait()


class Lane:
    """The queue of one server. Works that the daemon's own stop breaks off are not settled: the journal has them."""

    _log = Logger()

    def __init__(self, *, slots: DeferredSemaphore, now: Callable[[], float], tasks: Tasks, limit: int) -> None:
        self._slots = slots
        self._now = now
        self._tasks = tasks
        self._limit = limit
        self._waiting: deque[Work] = deque()
        self._current: Work | None = None
        self._running: Deferred[Any] | None = None
        self._has_slot = False
        self._only_waits = False
        self._cancelled = False
        self._driving = False
        self._closed = False

    @property
    def idle(self) -> bool:
        return not self._driving and not self._waiting

    def add(self, work: Work) -> None:
        """Queues `work`. InvalidState: too many wait already."""
        if self._closed:
            return
        if work.overtakes and not self._late(work):
            work.expires_at = None  # its effect has begun
            self._overtake(work)
            self._waiting.insert(sum(1 for other in self._waiting if other.overtakes), work)
        elif len(self._waiting) >= self._limit:
            raise InvalidState(f"{len(self._waiting)} commands wait for this server already; try again later")
        else:
            self._waiting.append(work)
            if self._only_waits and self._ends_waits(work):
                self._cancel()
        if not self._driving:
            self._driving = True
            self._tasks.spawn("lane", self._drive())

    def close(self) -> None:
        """The daemon stops: nothing more is settled; the owner cancels the tasks."""
        self._closed = True
        self._waiting.clear()

    def _late(self, work: Work) -> bool:
        return work.expires_at is not None and work.expires_at <= self._now()

    def _ends_waits(self, work: Work) -> bool:
        return work.ends_waits and not self._late(work)

    def _overtake(self, by: Work) -> None:
        taken = [work for work in self._waiting if work.yields]
        ended = [*taken, *([self._current] if self._current is not None and self._current.yields else [])]
        by.overtook_arrival = any(work.arrival for work in ended)
        for work in taken:
            self._waiting.remove(work)
            self._tasks.spawn("cancelled work", self._settle(work, None, Cancelled(f"{work.name} was overtaken")))
        if self._current is not None and self._current.yields:
            self._cancel()

    def _cancel(self) -> None:
        """Once: what a work does then, it does to put things right."""
        if self._running is not None and not self._cancelled:
            self._cancelled = True
            self._running.cancel()

    def _work_only_waits(self) -> None:
        self._give_slot()
        if self._cancelled or any(map(self._ends_waits, self._waiting)):
            raise Cancelled("a stop came while the server was starting")
        self._only_waits = True

    def _give_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._slots.release()

    async def _drive(self) -> None:
        try:
            while self._waiting and not self._closed:
                await self._one(self._waiting.popleft())
        finally:
            self._driving = False

    async def _one(self, work: Work) -> None:
        self._current, self._cancelled = work, False
        work.on_wait = self._work_only_waits
        self._running = Deferred.fromCoroutine(self._perform(work))
        result: Mapping[str, Json] | None = None
        error: StellarError | None = None
        try:
            result = await self._running
        except CancelledError:
            error = Cancelled(f"{work.name} was overtaken")
        except StellarError as refused:
            error = refused
        except Exception:
            self._log.failure("{work} broke", work=work.name)
            error = StellarError(f"{work.name}: a fault of the daemon's own; its log tells more")
        finally:
            self._current = self._running = None
            self._only_waits = False
        await self._settle(work, result, error)

    async def _perform(self, work: Work) -> Mapping[str, Json]:
        if work.heavy:
            await self._slots.acquire()
            self._has_slot = True
        try:
            if self._late(work):
                raise Expired(f"{work.name} was due {self._now() - (work.expires_at or 0):.0f} s before its turn came")
            return await work.perform(work)
        finally:
            self._give_slot()

    async def _settle(self, work: Work, result: Mapping[str, Json] | None, error: StellarError | None) -> None:
        if self._closed:
            return
        try:
            await work.settle(Outcome(result, error, work.begun))
        except CancelledError:
            raise
        except Exception:
            self._log.failure("the result of {work} could not be told", work=work.name)
