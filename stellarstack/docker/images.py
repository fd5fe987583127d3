"""Images: looked up, fetched and removed (the `/images` part of the Engine API)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from stellarstack.config import DockerConfig
from stellarstack.core.images import ImageReference, parse_image
from stellarstack.docker.client import DockerClient, Request
from stellarstack.docker.fields import number, text
from stellarstack.docker.lines import JsonLines
from stellarstack.docker.translation import one_line
from stellarstack.errors import DockerUnavailable, ImagePullFailed, TimedOut
from stellarstack.interfaces import PullProgress, RegistryLogin
from stellarstack.tasks import within

PULL_IDLE = 300.0
_LAYERS_MAX = 1000


class Images:
    """The engine's images. Raises DockerUnavailable (or a subclass), ImagePullFailed, TimedOut, BlueprintInvalid."""

    def __init__(self, *, client: DockerClient, clock: IReactorTime, config: DockerConfig) -> None:
        self._client = client
        self._clock = clock
        self._config = config

    async def has(self, image: str) -> bool:
        """See `Engine.has_image`. BlueprintInvalid: no image can have such a name."""
        return bool(await self.id_of(image))

    async def id_of(self, image: str) -> str:
        """See `Engine.image_id`. BlueprintInvalid: no image can have such a name."""
        answer = await self._client.call(Request("GET", f"/images/{_path(image)}/json"))
        if answer.status == 404:
            return ""
        found = text(answer.require().json(), "Id")
        if not found:
            raise DockerUnavailable("Docker has an image and does not tell its id")
        return found

    async def remove(self, image: str) -> bool:
        """See `Engine.remove_image`. Of one that is gone: True."""
        answer = await self._client.call(Request("DELETE", f"/images/{_path(image)}"))
        if answer.status == 409:
            return False
        if answer.status != 404:
            answer.require()
        return True

    async def pull(self, image: str, login: RegistryLogin | None, progress: Callable[[PullProgress], None]) -> None:
        """See `Engine.pull`. Without a `login`, that of `[docker.registries]` for the image's registry is used.

        TimedOut: over `[docker] pull_timeout` in all, or 300 s without a word of the engine.
        """
        reference = parse_image(image)
        login = login or self._login_for(reference)
        pulling = Pull(clock=self._clock, reference=reference, login=login, progress=progress)
        await within(self._clock, self._config.pull_timeout, f"pulling {reference}", pulling.run(self._client))

    def _login_for(self, reference: ImageReference) -> RegistryLogin | None:
        """Of exactly the image's registry; `default` names the engine's own, for images that name none."""
        found = self._config.registries.get(reference.registry or "default")
        return RegistryLogin(reference.registry, found.username, found.password.reveal()) if found else None


def _path(image: str) -> str:
    return quote(str(parse_image(image)), safe="/:@")


class Pull:
    """One image on its way in."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        reference: ImageReference,
        login: RegistryLogin | None,
        progress: Callable[[PullProgress], None],
    ) -> None:
        self._clock = clock
        self._reference = reference
        self._login = login
        self._progress = progress
        self._layers: dict[str, tuple[int, int]] = {}
        self._told: PullProgress | None = None

    async def run(self, client: DockerClient) -> None:
        """Ends when the image is here. ImagePullFailed, TimedOut, DockerUnavailable."""
        lines = JsonLines(self._line)

        def received(data: bytes) -> None:
            silence.reset(PULL_IDLE)
            lines.feed(data)

        request = Request("POST", "/images/create", params=self._params(), headers=self._headers())
        reading = Deferred.fromCoroutine(client.stream(request, received, head_timeout=2 * PULL_IDLE))
        silence = self._clock.callLater(PULL_IDLE, reading.cancel)
        try:
            answer = await reading
        except CancelledError:
            if silence.active():
                raise
            raise TimedOut(f"pulling {self._reference}: Docker said nothing for {PULL_IDLE:g} s") from None
        finally:
            if silence.active():
                silence.cancel()
        if answer.status >= 400:
            raise self._failed(answer.message)

    def _params(self) -> Mapping[str, str]:
        return {"fromImage": self._reference.repository, "tag": self._reference.version}

    def _headers(self) -> Mapping[str, str]:
        if self._login is None:
            return {}
        login = {
            "username": self._login.username,
            "password": self._login.password,
            "serveraddress": self._login.server,
        }
        return {"X-Registry-Auth": urlsafe_b64encode(json.dumps(login).encode()).decode()}

    def _line(self, line: Mapping[str, Any]) -> None:
        if words := text(line, "errorDetail", "message") or text(line, "error"):
            raise self._failed(words)
        layer = text(line, "id")
        if not layer or (layer not in self._layers and len(self._layers) >= _LAYERS_MAX):
            return
        before = self._layers.get(layer, (0, 0))
        match text(line, "status"):
            case "Downloading":
                detail = (number(line, "progressDetail", "current"), number(line, "progressDetail", "total"))
                self._layers[layer] = (min(detail), max(detail[1], before[1]))
            case "Pulling fs layer" | "Waiting":
                self._layers[layer] = before
            case "Verifying Checksum" | "Download complete" | "Pull complete" | "Already exists":
                self._layers[layer] = (before[1], before[1])
            case _:
                return
        self._tell()

    def _tell(self) -> None:
        done, total = (sum(sizes) for sizes in zip(*self._layers.values(), strict=True))
        now = PullProgress(done=done, total=total, layers=len(self._layers))
        if now != self._told:
            self._told = now
            self._progress(now)

    def _failed(self, words: str) -> ImagePullFailed:
        if self._login is not None and self._login.password:
            words = words.replace(self._login.password, "…")
        return ImagePullFailed(f"{self._reference} cannot be pulled (Docker: {one_line(words)})")
