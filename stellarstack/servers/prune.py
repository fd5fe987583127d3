"""Images that this daemon fetched and that no server needs any more: remembered, and removed after a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.images import parse_image
from stellarstack.core.messages import Json
from stellarstack.errors import BlueprintInvalid, StellarError
from stellarstack.interfaces import Engine, Store
from stellarstack.tasks import Tasks, sleep

if TYPE_CHECKING:
    from stellarstack.servers.server import Server

KEY = "images.pulled"
HOUR = 3600.0
FIRST_CHECK = 600.0  # seconds after the start: a daemon that is restarted every night checks too
CHECK_MOST, CHECK_LEAST = 24 * HOUR, HOUR
REMEMBERED_MOST = 10_000


@dataclass(slots=True)
class _Pulled:
    """`content` is the engine's id of what was fetched; `idle_since`: when a check first found no server of it."""

    content: str
    idle_since: float | None = None


class PulledImages:
    """What this daemon fetched, by name. `needed` answers the images of all servers, of those that come too.

    `after` in seconds (0: nothing is ever removed). An image that was here before, or that somebody put under the same
    name since, is not ours and is never touched.
    """

    _log = Logger()

    def __init__(
        self, *, engine: Engine, store: Store, clock: IReactorTime, now: Callable[[], float], tasks: Tasks,
        after: float, needed: Callable[[], Iterable[str]],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._store = store
        self._clock = clock
        self._now = now
        self._tasks = tasks
        self._after = after
        self._needed = needed
        self._pulled: dict[str, _Pulled] = {}
        self._removing: dict[str, list[Deferred[None]]] = {}

    async def load(self) -> None:
        """Reads what earlier daemons fetched. StoreFailed: not yet."""
        found = await self._store.get_value(KEY)
        for image, kept in found.items() if isinstance(found, dict) else ():
            if isinstance(kept, dict) and isinstance(kept.get("id"), str):
                idle = kept.get("idleSince")
                since = float(idle) if isinstance(idle, int | float) else None
                self._pulled.setdefault(image, _Pulled(str(kept["id"]), since))

    def start(self) -> None:
        """Checks from now on, once a day (more often where `after` is shorter)."""
        if self._after > 0:
            self._tasks.spawn("image prune", self._check_on())

    # ------------------------------------------------------------------ what a pull tells

    async def settled(self, image: str) -> None:
        """Waits while this image is being removed: who asks for it then fetches it anew."""
        name = _name(image)
        if name in self._removing:
            waiting: Deferred[None] = Deferred()
            self._removing[name].append(waiting)
            await waiting

    async def fetched(self, image: str) -> None:
        """This daemon has just pulled an image that was not here. Never fails: at worst it is never removed."""
        try:
            content = await self._engine.image_id(image)
            if content:
                self._pulled[_name(image)] = _Pulled(content)
                await self._keep()
        except StellarError as error:
            self._log.warn("{image} is not remembered for its removal: {reason}", image=image, reason=str(error))

    # ------------------------------------------------------------------ the check

    async def check(self) -> None:
        """Removes what has been idle for long enough. An engine or a store that stumbles is asked again next time."""
        needed = set(map(_name, self._needed()))
        before = {image: pulled.idle_since for image, pulled in self._pulled.items()}
        for image, pulled in list(self._pulled.items()):
            if image in needed:
                pulled.idle_since = None
            elif pulled.idle_since is None or pulled.idle_since > self._now():
                pulled.idle_since = self._now()
            elif self._now() - pulled.idle_since >= self._after:
                await self._try_to_remove(image, pulled)
        if before != {image: pulled.idle_since for image, pulled in self._pulled.items()}:
            await self._keep()

    async def _check_on(self) -> None:
        await sleep(self._clock, FIRST_CHECK)
        while True:
            try:
                await self.check()
            except StellarError as error:
                self._log.warn("images could not be checked: {reason}", reason=str(error))
            await sleep(self._clock, min(CHECK_MOST, max(CHECK_LEAST, self._after)))

    async def _try_to_remove(self, image: str, pulled: _Pulled) -> None:
        self._removing[image] = []
        try:
            content = await self._engine.image_id(image)
            if image in map(_name, self._needed()):
                pulled.idle_since = None  # a server of it came meanwhile
            elif content != pulled.content:
                del self._pulled[image]  # gone, or another one by now: not ours
            elif await self._engine.remove_image(image):
                del self._pulled[image]
                self._log.info("{image} was removed: no server has needed it for long", image=image)
        except StellarError as error:
            self._log.warn("{image} could not be removed: {reason}", image=image, reason=str(error))
        finally:
            for waiting in self._removing.pop(image):
                waiting.callback(None)

    async def _keep(self) -> None:
        while len(self._pulled) > REMEMBERED_MOST:
            del self._pulled[next(iter(self._pulled))]
        kept: dict[str, Json] = {
            image: {"id": pulled.content, "idleSince": pulled.idle_since} for image, pulled in self._pulled.items()
        }
        await self._store.put_value(KEY, kept)


def images_of(servers: Iterable[Server]) -> set[str]:
    """What these servers run and install with."""
    return {image for server in servers for image in (server.spec.image, server.spec.install_image) if image}


def _name(image: str) -> str:
    """One spelling of a name. What no engine can have stands for itself."""
    try:
        return str(parse_image(image))
    except BlueprintInvalid:
        return image
