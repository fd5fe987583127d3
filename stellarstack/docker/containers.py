"""Containers: made, started, signalled, looked at, removed (the `/containers` part of the Engine API)."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.docker.client import LIST_MAX, Answer, DockerClient, Request
from stellarstack.docker.fields import flag, instant, labels, mapping, number, sequence, text
from stellarstack.docker.lines import Frames
from stellarstack.docker.translation import one_line, taken_port
from stellarstack.errors import ContainerGone, DockerUnavailable, EngineRefused, ImageNotFound, PortInUse
from stellarstack.interfaces import ContainerState
from stellarstack.tasks import within

LOGS_MAX = 16 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", re.ASCII)
_NOT_RUNNING = ("is not running", "no such process", "already finished", "is not started")
_NO_CONTAINER = "o such container"
_NO_IMAGE = "o such image"
_NO_UPDATE = "annot update container"
_BEING_REMOVED = "is already in progress"


class Containers:
    """The engine's containers. Raises DockerUnavailable (or a subclass), ImageNotFound, PortInUse, TimedOut."""

    def __init__(self, *, client: DockerClient, clock: IReactorTime) -> None:
        self._client = client
        self._clock = clock

    async def create(self, name: str, body: Mapping[str, Json]) -> str:
        """See `Engine.create_container`; `body` is that of `POST /containers/create`."""
        request = Request("POST", "/containers/create", params={"name": name}, body=dict(body))
        answer = await self._client.call(request)
        answer.require(missing=ImageNotFound if _NO_IMAGE in answer.message else EngineRefused)
        made = text(answer.json(), "Id")
        if not made:
            raise DockerUnavailable("Docker made a container and does not tell its id")
        return made

    async def start(self, container: str) -> None:
        """See `Engine.start`. After PortInUse the container is there, as it was, and does not run."""
        answer = await self._client.call(Request("POST", path_to(container, "start")))
        port = taken_port(answer.message) if answer.status >= 400 else None
        if port is not None:
            raise PortInUse(await self._port_story(port, answer.message))
        answer.require(missing=ContainerGone if _NO_CONTAINER in answer.message else EngineRefused)

    async def kill(self, container: str, signal: str) -> None:
        """See `Engine.kill`."""
        answer = await self._client.call(Request("POST", path_to(container, "kill"), params={"signal": signal}))
        if answer.status >= 400 and any(words in answer.message for words in _NOT_RUNNING):
            return
        answer.require(missing=ContainerGone)

    async def remove(self, container: str) -> None:
        """See `Engine.remove`. Its anonymous volumes go with it; one that is being removed is waited for."""
        if not _NAME.fullmatch(container):
            return
        path = f"/containers/{quote(container, safe='')}"
        answer = await self._client.call(Request("DELETE", path, params={"force": "1", "v": "1"}))
        if answer.status == 409 and _BEING_REMOVED in answer.message:
            answer = await self._client.call(Request("POST", path + "/wait", params={"condition": "removed"}))
        if answer.status != 404:
            answer.require()

    async def inspect(self, container: str) -> ContainerState:
        """See `Engine.inspect`."""
        return state_of(await self.inspect_raw(container))

    async def inspect_raw(self, container: str) -> Mapping[str, Any]:
        """The engine's own answer. ContainerGone: there is none."""
        answer = await self._client.call(Request("GET", path_to(container, "json")))
        return mapping(answer.require(missing=ContainerGone).json())

    async def list(self, wanted: Mapping[str, str]) -> Sequence[ContainerState]:
        """See `Engine.containers`."""
        return [state_of_row(row) for row in await self._rows({"label": label_filter(wanted)})]

    async def wait(self, container: str) -> int:
        """See `Engine.wait`. Cancelling it closes the connection."""
        body = bytearray()
        request = Request("POST", path_to(container, "wait"), params={"condition": "not-running"})
        answer = await self._client.stream(request, body.extend)
        answer.require(missing=ContainerGone)
        found = Answer(answer.status, bytes(body)).json()
        if why := text(found, "Error", "Message"):
            raise DockerUnavailable(f"Docker: {one_line(why)}")
        return number(found, "StatusCode")

    async def resize(self, container: str, size: PtySize) -> None:
        """See `Engine.resize`. One that does not run has no terminal yet: no error, and nothing is done."""
        params = {"h": str(size.rows), "w": str(size.cols)}
        answer = await self._client.call(Request("POST", path_to(container, "resize"), params=params))
        if answer.status >= 400 and any(words in answer.message for words in _NOT_RUNNING):
            return
        answer.require(missing=ContainerGone)

    async def update(self, container: str, body: Mapping[str, Json]) -> Sequence[str]:
        """See `Engine.update_container`."""
        answer = await self._client.call(Request("POST", path_to(container, "update"), body=dict(body)))
        if answer.status >= 400 and _NO_UPDATE in answer.message:  # told as 409 or 500, though it is the request
            raise EngineRefused(f"Docker: {one_line(answer.message)}")
        found = answer.require(missing=ContainerGone).json()
        return [one_line(line) for line in sequence(found, "Warnings") if isinstance(line, str)]

    async def logs(self, container: str, since: float | None, tail: int | None) -> bytes:
        """See `Engine.logs`."""
        raw = await self.inspect_raw(container)
        params = {"stdout": "1", "stderr": "1", "tail": "all" if tail is None else str(tail)}
        if since is not None:
            params["since"] = f"{since:.9f}"
        request = Request("GET", path_to(container, "logs"), params=params)
        newest = Newest(LOGS_MAX)
        received = newest.add if flag(raw, "Config", "Tty") else Frames(newest.add).feed
        reading = self._client.stream(request, received)
        answer = await within(self._clock, self._client.timeout, f"Docker logs of {container}", reading)
        answer.require(missing=ContainerGone)
        return newest.whole_lines()

    async def stats(self, container: str) -> Mapping[str, Json]:
        """See `Engine.stats`. One reading, not the difference of two: `precpu_stats` is empty."""
        params = {"stream": "0", "one-shot": "1"}
        answer = await self._client.call(Request("GET", path_to(container, "stats"), params=params))
        return mapping(answer.require(missing=ContainerGone).json())

    async def _rows(self, filters: Mapping[str, Sequence[str]]) -> Sequence[Any]:
        params = {"all": "1", "filters": json.dumps(filters)}
        answer = await self._client.call(Request("GET", "/containers/json", params=params, limit=LIST_MAX))
        return sequence({"rows": answer.require().json()}, "rows")

    async def _port_story(self, port: int, message: str) -> str:
        if not port:
            return f"a port is in use already (Docker: {one_line(message)})"
        rows = await self._rows({"publish": [str(port)], "status": ["running"]})
        names = [state_of_row(row).name for row in rows]
        holder = f"container {names[0]}" if names else "a program outside Docker"
        return f"port {port} is in use already, by {holder} (Docker: {one_line(message)})"


def path_to(container: str, what: str) -> str:
    """The path of one container's resource. ContainerGone: no container can have such a name."""
    if not _NAME.fullmatch(container):
        raise ContainerGone(f"no container is called {container[:80]!r}")
    return f"/containers/{quote(container, safe='')}/{what}"


def label_filter(wanted: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in wanted.items()]


def state_of(raw: Mapping[str, Any]) -> ContainerState:
    """A container out of the engine's inspect answer."""
    networks = mapping(raw, "NetworkSettings", "Networks")
    return ContainerState(
        id=text(raw, "Id"),
        name=text(raw, "Name").removeprefix("/"),
        status=text(raw, "State", "Status"),
        running=flag(raw, "State", "Running"),
        pid=number(raw, "State", "Pid"),
        exit_code=number(raw, "State", "ExitCode"),
        oom_killed=flag(raw, "State", "OOMKilled"),
        error=one_line(text(raw, "State", "Error")),
        started_at=instant(raw, "State", "StartedAt"),
        finished_at=instant(raw, "State", "FinishedAt"),
        labels=labels(raw, "Config", "Labels"),
        image=text(raw, "Config", "Image"),
        addresses=_addresses(networks),
    )


def state_of_row(row: Mapping[str, Any]) -> ContainerState:
    """A container out of one row of the engine's list answer, which tells less."""
    status = text(row, "State")
    names = [name for name in sequence(row, "Names") if isinstance(name, str)]
    return ContainerState(
        id=text(row, "Id"),
        name=names[0].removeprefix("/") if names else "",
        status=status,
        running=status in ("running", "paused", "restarting"),
        pid=0,
        exit_code=0,
        oom_killed=False,
        error="",
        started_at=None,
        finished_at=None,
        labels=labels(row, "Labels"),
        image=text(row, "Image"),
        addresses=_addresses(mapping(row, "NetworkSettings", "Networks")),
    )


class Newest:
    """Keeps the newest bytes of a stream, cut at line ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._cut = False

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())
            self._cut = True

    def whole_lines(self) -> bytes:
        """What was kept, at most `limit` bytes, from the begin of a line to the end of one."""
        joined = b"".join(self._pieces)
        if len(joined) > self._limit:
            joined, self._cut = joined[-self._limit :], True
        begin = joined.find(b"\n") + 1 if self._cut else 0
        return joined[begin : joined.rfind(b"\n") + 1]


def _addresses(networks: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: text(network, "IPAddress") for name, network in networks.items() if text(network, "IPAddress")}
