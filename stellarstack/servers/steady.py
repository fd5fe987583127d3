"""Effects on the outside that nothing may leave half done: who is cancelled meanwhile waits for their end first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from stellarstack.core.messages import Json
from stellarstack.errors import ContainerGone, EngineConflict, InvalidState, StellarError, TimedOut
from stellarstack.interfaces import Engine
from stellarstack.servers.ownership import Ownership
from stellarstack.servers.threads import Threads
from stellarstack.tasks import within

ADVICE = "give each daemon its own [node] id"
REMOVALS = 8  # side by side: the engine takes networks down one at a time, and a hundred would time out
GRACE = 5.0  # seconds that a cancelled caller waits for the end of what it began
P = ParamSpec("P")
T = TypeVar("T")


async def steady(clock: IReactorTime, what: str, work: Coroutine[Deferred[Any], Any, T]) -> T:
    """Awaits `work`. A cancel does not reach it: it waits for its end, GRACE at most, and then raises CancelledError.

    Without this a container that was being made could appear after its server was deleted.
    """
    running: Deferred[T] = Deferred.fromCoroutine(work)
    try:
        return await _hears(running)
    except CancelledError:
        if not running.called:
            with suppress(TimedOut):
                await within(clock, GRACE, what, _hears(running))
        raise
    finally:
        running.cancel()


def _hears(running: Deferred[T]) -> Deferred[T]:
    """Fires as `running` does; cancelling it leaves `running` alone."""
    heard: Deferred[T] = Deferred()

    def tell(result: Any) -> None:
        if heard.called:
            return
        if isinstance(result, Failure):
            heard.errback(result)
        else:
            heard.callback(result)

    running.addBoth(tell)
    return heard


class Hands:
    """The engine's effects, each steady. Questions, pulls and waits are asked of the engine itself: they may break.

    Nothing is done to what another daemon made: here it counts as gone, and a container or network that is to take its
    name is refused (InvalidState). `removals`: the places that all hands share for what they remove.
    """

    def __init__(
        self, engine: Engine, clock: IReactorTime, ownership: Ownership, removals: DeferredSemaphore | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._ownership = ownership
        self._removals = removals or DeferredSemaphore(REMOVALS)

    async def create_container(self, name: str, body: Mapping[str, Json]) -> str:
        try:
            return await steady(self._clock, "a create", _run(self._engine.create_container(name, body)))
        except EngineConflict:
            if await self._foreign(name):
                raise InvalidState(f"container {name} belongs to another daemon; {ADVICE}") from None
            raise

    async def start(self, container: str) -> None:
        await steady(self._clock, "a start", _run(self._engine.start(container)))

    async def kill(self, container: str, signal: str) -> None:
        if await self._foreign(container):
            raise ContainerGone(f"container {container} belongs to another daemon")
        await steady(self._clock, "a kill", _run(self._engine.kill(container, signal)))

    async def remove(self, container: str) -> None:
        if not await self._foreign(container):
            await self._in_turn(self._engine.remove(container))

    async def create_network(self, name: str, subnet: str, labels: Mapping[str, str]) -> None:
        await steady(self._clock, "a create", _run(self._engine.create_network(name, subnet, labels)))

    async def remove_network(self, name: str) -> None:
        if await self._ownership.our_network(name):
            await self._in_turn(self._engine.remove_network(name))

    async def _in_turn(self, removal: Coroutine[Any, Any, None]) -> None:
        try:
            await self._removals.acquire()
        except CancelledError:
            removal.close()
            raise
        try:
            await steady(self._clock, "a remove", _run(removal))
        finally:
            self._removals.release()

    async def _foreign(self, container: str) -> bool:
        try:
            return not self._ownership.ours(await self._engine.inspect(container))
        except ContainerGone:
            return False


class SteadyThreads:
    """Meets Threads as a coroutine: a thread cannot be cancelled, so a cancelled caller waits for it.

    An OSError that the work did not expect becomes a StellarError of one line.
    """

    def __init__(self, threads: Threads, clock: IReactorTime) -> None:
        self._threads = threads
        self._clock = clock

    async def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await steady(self._clock, "a thread", _run(self._threads(work, *args, **kwargs)))
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            raise StellarError(f"the host's file system refuses{where}: {error.strerror or error}") from None


async def _run(work: Awaitable[T]) -> T:
    return await work
