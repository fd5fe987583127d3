"""The `Engine` seam over the real Docker Engine: one object that puts the parts of this room together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from stellarstack.config import DockerConfig
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.docker.attach import Attaching
from stellarstack.docker.client import DockerClient, Request
from stellarstack.docker.containers import Containers
from stellarstack.docker.feed import Feed
from stellarstack.docker.fields import flag, sequence, text
from stellarstack.docker.images import Images
from stellarstack.docker.networks import Networks
from stellarstack.interfaces import (
    Attachment,
    ContainerState,
    EngineEvent,
    EngineVersion,
    OutputSink,
    PullProgress,
    RegistryLogin,
)


class DockerEngine:
    """Meets `interfaces.Engine`, where each method's contract stands. It holds no connection between calls.

    `reactor` connects, `clock` times (the same object, unless a test says otherwise).
    """

    def __init__(self, *, reactor: Any, config: DockerConfig, clock: IReactorTime | None = None) -> None:
        clock = clock or reactor
        self._client = DockerClient(
            reactor=reactor, clock=clock, socket=config.socket, timeout=config.request_timeout
        )  # fmt: skip
        self._containers = Containers(client=self._client, clock=clock)
        self._images = Images(client=self._client, clock=clock, config=config)
        self._networks = Networks(client=self._client)
        self._attaching = Attaching(reactor=reactor, clock=clock, socket=config.socket, client=self._client)
        self._feed = Feed(client=self._client)

    async def version(self) -> EngineVersion:
        """EngineTooOld: it speaks nothing from 1.40 on. `api` is the version that both sides use from now on."""
        found = await self._client.versions()
        about = (await self._client.call(Request("GET", "/info"))).require().json()
        return EngineVersion(
            version=text(found, "Version"),
            api=await self._client.api(),
            cgroup=2 if text(about, "CgroupVersion") == "2" else 1,
            cgroup_driver=text(about, "CgroupDriver"),
            root=text(about, "DockerRootDir"),
            live_restore=flag(about, "LiveRestoreEnabled"),
            runc=_runc(found),
        )

    async def create_container(self, name: str, body: Mapping[str, Json]) -> str:
        return await self._containers.create(name, body)

    async def start(self, container: str) -> None:
        await self._containers.start(container)

    async def kill(self, container: str, signal: str) -> None:
        await self._containers.kill(container, signal)

    async def remove(self, container: str) -> None:
        await self._containers.remove(container)

    async def inspect(self, container: str) -> ContainerState:
        return await self._containers.inspect(container)

    async def containers(self, labels: Mapping[str, str]) -> Sequence[ContainerState]:
        return await self._containers.list(labels)

    async def wait(self, container: str) -> int:
        return await self._containers.wait(container)

    async def resize(self, container: str, size: PtySize) -> None:
        """Of one that does not run: no error, and nothing is done (it has no terminal yet)."""
        await self._containers.resize(container, size)

    async def update_container(self, container: str, body: Mapping[str, Json]) -> Sequence[str]:
        return await self._containers.update(container, body)

    async def attach(self, container: str, sink: OutputSink) -> Attachment:
        return await self._attaching.attach(container, sink)

    async def logs(self, container: str, since: float | None = None, tail: int | None = None) -> bytes:
        return await self._containers.logs(container, since, tail)

    async def stats(self, container: str) -> Mapping[str, Json]:
        return await self._containers.stats(container)

    async def has_image(self, image: str) -> bool:
        return await self._images.has(image)

    async def image_id(self, image: str) -> str:
        return await self._images.id_of(image)

    async def remove_image(self, image: str) -> bool:
        return await self._images.remove(image)

    async def pull(self, image: str, login: RegistryLogin | None, progress: Callable[[PullProgress], None]) -> None:
        await self._images.pull(image, login, progress)

    async def create_network(self, name: str, subnet: str, labels: Mapping[str, str]) -> str:
        return await self._networks.create(name, subnet, labels)

    async def remove_network(self, name: str) -> None:
        await self._networks.remove(name)

    async def networks(self, labels: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        return await self._networks.list(labels)

    async def follow_events(
        self, since: float, received: Callable[[EngineEvent], None], connected: Callable[[], None]
    ) -> None:
        await self._feed.follow(since, received, connected)


def _runc(version: Mapping[str, Any]) -> str:
    parts = sequence(version, "Components")
    return next((text(part, "Version") for part in parts if text(part, "Name") == "runc"), "")
