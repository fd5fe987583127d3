"""An engine in memory that meets the `Engine` seam and behaves as Docker does, faults included."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from stellarstack.core.images import parse_image
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.errors import (
    ContainerGone,
    DockerUnavailable,
    EngineConflict,
    EngineRefused,
    ImageNotFound,
    ImagePullFailed,
)
from stellarstack.interfaces import (
    Attachment,
    ContainerState,
    EngineEvent,
    EngineVersion,
    OutputSink,
    PullProgress,
    RegistryLogin,
)
from tests.fake_calls import FakeCalls
from tests.fake_container import Attached, Container, Program, signal_number
from tests.fake_network import FakeNetworks

T = TypeVar("T")
ProgramOf = Callable[[Mapping[str, Any]], Program]

EVENTS_KEPT = 256
NODE_LABEL = "stellarstack.node"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)


@dataclass(eq=False)
class Follower:
    received: Callable[[EngineEvent], None]
    broken: Deferred[None]


class FakeEngine:
    """Docker in memory, on `clock`.

    `images` maps a name to the program that its containers run, or to what makes one out of the create body. `faults`
    tells how calls go wrong and how long they take, `bridges` which ports somebody else holds.
    """

    def __init__(self, *, clock: IReactorTime, images: Mapping[str, ProgramOf | Program] | None = None) -> None:
        self.clock = clock
        self.live_restore = True
        self.faults = FakeCalls(clock)
        self.bridges = FakeNetworks(self.all)
        self.registry: dict[str, Program | ProgramOf] = {}
        self._images: dict[str, Program | ProgramOf] = {}
        self._containers: dict[str, Container] = {}
        self._events: deque[EngineEvent] = deque(maxlen=EVENTS_KEPT)
        self._followers: list[Follower] = []
        self._made = 0
        for image, program in (images or {}).items():
            self.add_image(image, program)

    # ------------------------------------------------------------------ the seam

    async def version(self) -> EngineVersion:
        return await self.faults.call("version", "", lambda: EngineVersion(
            "20.10.24", (1, 41), 1, "cgroupfs", "/var/lib/docker", self.live_restore,
        ))  # fmt: skip

    async def create_container(self, name: str, body: Mapping[str, Json]) -> str:
        return await self.faults.call("create_container", name, lambda: self._create(name, body))

    async def start(self, container: str) -> None:
        await self.faults.call("start", container, lambda: self._start(self.get(container)))

    async def kill(self, container: str, signal: str) -> None:
        await self.faults.call("kill", container, lambda: self._kill(self.get(container), signal))

    async def remove(self, container: str) -> None:
        await self.faults.call("remove", container, lambda: self._remove(container))

    async def inspect(self, container: str) -> ContainerState:
        return await self.faults.call("inspect", container, lambda: self.get(container).state())

    async def containers(self, labels: Mapping[str, str]) -> Sequence[ContainerState]:
        return await self.faults.call("containers", "", lambda: [
            one.row() for one in self._containers.values() if labels.items() <= one.labels.items()
        ])  # fmt: skip

    async def wait(self, container: str) -> int:
        return await (await self.faults.call("wait", container, lambda: [self._wait(self.get(container))]))[0]

    async def resize(self, container: str, size: PtySize) -> None:
        await self.faults.call("resize", container, lambda: self._resize(self.get(container), size))

    async def update_container(self, container: str, body: Mapping[str, Json]) -> Sequence[str]:
        return await self.faults.call("update_container", container, lambda: self.get(container).update(body))

    async def attach(self, container: str, sink: OutputSink) -> Attachment:
        return await self.faults.call("attach", container, lambda: self._attach(self.get(container), sink))

    async def logs(self, container: str, since: float | None = None, tail: int | None = None) -> bytes:
        return await self.faults.call("logs", container, lambda: self.get(container).log.read(since, tail))

    async def stats(self, container: str) -> Mapping[str, Json]:
        return await self.faults.call("stats", container, lambda: self._stats(self.get(container)))

    async def has_image(self, image: str) -> bool:
        return await self.faults.call("has_image", image, lambda: str(parse_image(image)) in self._images)

    async def image_id(self, image: str) -> str:
        return await self.faults.call("image_id", image, lambda: self._image_id(str(parse_image(image))))

    async def remove_image(self, image: str) -> bool:
        return await self.faults.call("remove_image", image, lambda: self._remove_image(str(parse_image(image))))

    async def pull(self, image: str, login: RegistryLogin | None, progress: Callable[[PullProgress], None]) -> None:
        await self.faults.call("pull", image, lambda: self._pull(str(parse_image(image)), progress))

    async def create_network(self, name: str, subnet: str, labels: Mapping[str, str]) -> str:
        return await self.faults.call("create_network", name, lambda: self.bridges.create(name, subnet, labels))

    async def remove_network(self, name: str) -> None:
        await self.faults.call("remove_network", name, lambda: self.bridges.remove(name))

    async def networks(self, labels: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        return await self.faults.call("networks", "", lambda: self.bridges.list(labels))

    async def follow_events(
        self, since: float, received: Callable[[EngineEvent], None], connected: Callable[[], None]
    ) -> None:
        follower = Follower(received, Deferred())
        await self.faults.call("follow_events", "", lambda: None)
        connected()
        self._followers.append(follower)
        try:
            for event in list(self._events):
                if event.time >= since:
                    self._tell(follower, event)
            await follower.broken
        finally:
            self._followers.remove(follower)

    # ------------------------------------------------------------------ what tests do to it

    def add_image(self, image: str, program: Program | ProgramOf) -> None:
        """An image that is here; its containers run `program`, or what it answers to the create body."""
        self._images[str(parse_image(image))] = program

    def get(self, container: str) -> Container:
        """By id, name, or the begin of an id. ContainerGone."""
        for one in self._containers.values():
            if container in (one.id, one.name) or (len(container) >= 4 and one.id.startswith(container)):
                return one
        raise ContainerGone(f"Docker: No such container: {container}")

    def all(self) -> Sequence[Container]:
        """The containers, in the order they were made."""
        return list(self._containers.values())

    def go_down(self) -> None:
        """dockerd ends: feeds, attaches, waits and calls break. Without `live_restore` the containers end too."""
        self.faults.down = True
        self._events.clear()
        for container in self.all():
            if not self.live_restore and container.process is not None:
                container.end(container.program.signals.get("SIGTERM", 137))
        gone = DockerUnavailable("Docker does not answer: Connection lost.")
        waits = [waiter for container in self.all() for waiter in container.take_waits()]
        for follower in list(self._followers):
            follower.broken.errback(gone)
        for waiter in waits:
            waiter.errback(gone)
            waiter.addErrback(lambda _: None)  # of a wait whose caller is gone already
        self.faults.break_all(gone)
        for container in self.all():
            container.drop_attached()

    def come_back(self) -> None:
        """dockerd is there again; past events are lost, names, networks and images are not."""
        self.faults.down = False
        for container in self.all():
            container.read_held()

    def vanish(self, container: str) -> None:
        """Somebody else says `docker rm -f`."""
        self._remove(container)

    def crash(self, container: str, exit_code: int = 1) -> None:
        """Its program ends by itself."""
        self.get(container).end(exit_code)

    def oom(self, container: str) -> None:
        """The kernel kills it for want of memory."""
        self.get(container).end(137, oom=True)

    def print(self, container: str, text: str | bytes) -> None:
        """Its program prints."""
        process = self.get(container).process
        if process is not None:
            process.print(text)

    # ------------------------------------------------------------------ what containers ask

    @property
    def down(self) -> bool:
        """dockerd does not run."""
        return self.faults.down

    def now(self) -> float:
        return self.clock.seconds()

    def emit(self, container: Container, action: str, **attributes: str) -> None:
        """One event, kept and told."""
        if self.down:
            return
        told = {**container.labels, "image": str(container.body["Image"]), "name": container.name, **attributes}
        code = int(attributes["exitCode"]) if "exitCode" in attributes else None
        event = EngineEvent(action, container.id, told, code, self.now())
        self._events.append(event)
        for follower in list(self._followers):
            self._tell(follower, event)

    def forget(self, container: Container) -> None:
        """Its record goes: nobody can ask for it any more."""
        if self._containers.pop(container.id, None) is not None:
            container.drop_attached()
            container.answer_waits()
            self.emit(container, "destroy")

    def _tell(self, follower: Follower, event: EngineEvent) -> None:
        if NODE_LABEL not in event.labels or follower.broken.called:
            return
        try:
            follower.received(event)
        except Exception as error:
            follower.broken.errback(error)

    # ------------------------------------------------------------------ effects

    def _create(self, name: str, body: Mapping[str, Any]) -> str:
        if not _NAME.fullmatch(name):
            raise EngineRefused(f"Docker: Invalid container name ({name})")
        if str(parse_image(str(body["Image"]))) not in self._images:
            raise ImageNotFound(f"Docker: No such image: {body['Image']}")
        for one in self._containers.values():
            if one.name == name:
                raise EngineConflict(f'Docker: Conflict. The container name "/{name}" is already in use by {one.id}')
        self._made += 1
        made = Container(self, hashlib.sha256(b"%d" % self._made).hexdigest(), name, dict(body))
        self._containers[made.id] = made
        self.emit(made, "create")
        return made.id

    def _start(self, container: Container) -> None:
        if container.running:
            return
        self.bridges.check_ports(container)
        container.addresses = self.bridges.addresses_for(container)
        program = self._images[str(parse_image(str(container.body["Image"])))]
        self._made += 1
        container.begin(1000 + self._made, program if isinstance(program, Program) else program(container.body))

    def _kill(self, container: Container, signal: str) -> None:
        number = signal_number(signal)
        if number is None:
            raise EngineRefused(f"Docker: Invalid signal: {signal}")
        process = container.process
        if process is None:
            return
        self.emit(container, "kill", signal=str(number))
        if number == 9:
            container.end(137)
        else:
            container.program.on_signal(process, Signals(number).name)

    def _remove(self, name: str) -> None:
        try:
            container = self.get(name)
        except ContainerGone:
            return
        if container.running:
            self._kill(container, "SIGKILL")
        self.forget(container)

    def _wait(self, container: Container) -> Deferred[int]:
        waiter: Deferred[int] = Deferred(lambda gone: container.waiters.remove(gone))
        if container.running:
            container.waiters.append(waiter)
        else:
            waiter.callback(container.exit_code)
        return waiter

    def _resize(self, container: Container, size: PtySize) -> None:
        if container.process is not None:
            container.process.size = size
            self.emit(container, "resize", width=str(size.cols), height=str(size.rows))
            container.program.on_resize(container.process, size)

    def _attach(self, container: Container, sink: OutputSink) -> Attachment:
        attached = Attached(container, sink)
        container.attached.append(attached)
        self.emit(container, "attach")
        return attached

    def _stats(self, container: Container) -> Mapping[str, Json]:
        running = int(container.running)
        return {
            "read": "2026-01-01T00:00:00Z",
            "pids_stats": {"current": running},
            "memory_stats": {"usage": running << 20},
            "cpu_stats": {"cpu_usage": {"total_usage": running}},
        }

    def _image_id(self, image: str) -> str:
        """Which program the name stands for."""
        return f"sha256:{id(self._images[image]):064x}" if image in self._images else ""

    def _remove_image(self, image: str) -> bool:
        if any(str(parse_image(str(one.body["Image"]))) == image for one in self.all()):
            return False
        self._images.pop(image, None)
        return True

    def _pull(self, image: str, progress: Callable[[PullProgress], None]) -> None:
        if image not in self.registry:
            raise ImagePullFailed(f"{image} cannot be pulled (Docker: manifest for {image} not found)")
        for done in (0, 50, 100):
            progress(PullProgress(done=done, total=100, layers=1))
        self._images[image] = self.registry[image]
