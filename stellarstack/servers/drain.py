"""Emptying the node: it starts nothing new, and is OFFLINE when no server runs any more (PROTOCOL 7)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.events import node_alert
from stellarstack.core.messages import Json
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState, Stage
from stellarstack.core.records import ServerStatus
from stellarstack.core.requests import NodeDrain
from stellarstack.errors import Cancelled, InvalidState
from stellarstack.interfaces import EventBus, Store
from stellarstack.servers.household import Household
from stellarstack.servers.lane import Step
from stellarstack.tasks import Tasks, sleep, within

DRAINING_KEY = "node.draining"  # of the store's values: true while the node is being emptied, over restarts
LOOK_EVERY = 1.0  # seconds
AT_REST = (ServerStatus.STOPPED, ServerStatus.CRASHED)


class Drain:
    """Callable with each `node.drain`. One watch a node; any number of commands may wait for its end."""

    _log = Logger()

    def __init__(
        self, *, household: Household, lifecycle: NodeLifecycle, store: Store, bus: EventBus, node_id: str,
        clock: IReactorTime, now: Callable[[], float], tasks: Tasks,
    ) -> None:  # fmt: skip
        self._household = household
        self._lifecycle = lifecycle
        self._store = store
        self._bus = bus
        self._node_id = node_id
        self._clock = clock
        self._now = now
        self._tasks = tasks
        self._waiting: list[Deferred[bool]] = []
        self._watching = False

    async def __call__(self, request: NodeDrain, step: Step) -> dict[str, Json]:
        """Answers when the node is empty. Cancelled: taken back. TimedOut: not empty at the deadline; it drains on."""
        if request.cancel:
            return await self.cancel(step)
        await step.begin()
        await self._store.put_value(DRAINING_KEY, True)
        if not self._lifecycle.draining:
            self._lifecycle.drain()
        self.resume()
        if not await self._empty(request.deadline):
            raise Cancelled("the drain was taken back")
        return self._figures()

    async def cancel(self, step: Step) -> dict[str, Json]:
        """Puts the node back into service. InvalidState: it is not being drained."""
        if not self._lifecycle.draining:
            raise InvalidState(f"this node is {self._lifecycle.state.value}; no drain is under way")
        await step.begin()
        await self._store.put_value(DRAINING_KEY, False)
        if self._lifecycle.draining:
            self._lifecycle.drain_cancelled()
        self._answer(False)
        return self._figures()

    def resume(self) -> None:
        """Watches until no server is left. Called too at a start of the daemon that finds the node draining."""
        if not self._watching:
            self._watching = True
            self._tasks.spawn("drain", self._watch())

    async def _empty(self, deadline: float | None) -> bool:
        """True: no server is left; False: the drain was taken back."""
        if self._watching:
            waiting: Deferred[bool] = Deferred(self._no_longer_waits)
            self._waiting.append(waiting)
            if deadline is None:
                return await waiting
            return await within(self._clock, max(0.0, deadline - self._now()), "the drain", waiting)
        return True

    async def _watch(self) -> None:
        told = -1
        try:
            while self._lifecycle.draining:
                left = len(self._left())
                if not all(server.seen for server in self._household.all()):
                    await sleep(self._clock, LOOK_EVERY)  # after a start of the daemon nobody knows yet
                elif left != told:
                    told = left
                    await self._tell(left)
                elif not left and self._lifecycle.stage is not Stage.RESUMING:
                    break
                else:
                    await sleep(self._clock, LOOK_EVERY)
            if self._lifecycle.state is NodeState.DRAINING:
                self._lifecycle.drained()
        finally:
            self._watching = False
        self._answer(self._lifecycle.draining)

    def _answer(self, empty: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(empty)

    def _no_longer_waits(self, gone: Deferred[bool]) -> None:
        if gone in self._waiting:
            self._waiting.remove(gone)

    def _left(self) -> list[str]:
        """Servers that are not at rest, or of which nobody knows yet after a start of the daemon."""
        return [server.id for server in self._household.all() if not server.seen or server.status not in AT_REST]

    def _figures(self) -> dict[str, Json]:
        return {"total": len(self._household.all()), "migrated": 0, "remaining": len(self._left())}

    async def _tell(self, left: int) -> None:
        """Each step is an event."""
        text = f"this node is draining; {left} servers are not at rest yet"
        figures = self._figures()
        await self._bus.emit(node_alert(self._node_id, self._now(), "info", "drain_progress", text, None, **figures))
