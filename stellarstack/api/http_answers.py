"""How the HTTP doors answer: JSON, errors as `{"error": {"code", "message"}}`, and nothing of the request reflected."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from stellarstack.core.identifiers import SERVER_ID_BYTES
from stellarstack.core.messages import Json
from stellarstack.errors import (
    DockerUnavailable,
    Draining,
    Forbidden,
    InvalidCommand,
    InvalidPayload,
    InvalidState,
    RedisUnavailable,
    ServerNotFound,
    StellarError,
    StoreFailed,
    TimedOut,
    TooLarge,
    Unauthorized,
    UnknownCommand,
)
from stellarstack.tasks import Tasks, within

JSON_TYPE = "application/json"
ANSWER_WITHIN = 30.0  # seconds

# The first that fits counts.
_STATUS: tuple[tuple[type[StellarError], int], ...] = (
    (Unauthorized, 401),
    (Forbidden, 403),
    (ServerNotFound, 404),
    (InvalidPayload, 400),
    (InvalidCommand, 400),
    (UnknownCommand, 400),
    (TooLarge, 413),
    (InvalidState, 409),
    (Draining, 409),
    (TimedOut, 504),
    (StoreFailed, 503),
    (RedisUnavailable, 503),
    (DockerUnavailable, 503),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `headers` are sent beside the site's own, or instead of them."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, body: Json | Mapping[str, Json]) -> Answer:
    return Answer(status, json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))


def error_answer(status: int, code: str, message: str, **headers: str) -> Answer:
    """PROTOCOL 9's errors. Underscores in `headers` stand for hyphens."""
    found = json_answer(status, {"error": {"code": code, "message": message}})
    return Answer(found.status, found.body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def answer_to(error: StellarError) -> Answer:
    """The answer for an expected error, with the status that fits its kind."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    challenge = {"WWW_Authenticate": "Bearer"} if status == 401 else {}
    return error_answer(status, error.code, str(error), **challenge)


def write_head(request: Any, answer: Answer) -> bytes:
    """Sets status and headers of `answer`; answers its body."""
    request.setResponseCode(answer.status)
    request.setHeader(b"content-type", answer.content_type.encode())
    for name, value in answer.headers.items():
        request.setHeader(name.encode(), value.encode())
    return answer.body


def send(request: Any, answer: Answer) -> None:
    """Writes the whole answer."""
    body = write_head(request, answer)
    if answer.status != 304:  # whose length would be that of what is not sent
        request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def not_found() -> Answer:
    return error_answer(404, "not_found", "there is nothing at this address")


# Answers a request; None where the request was taken over and will be finished elsewhere.
Ask = Callable[[Any], Awaitable[Answer | None]]


class Endpoint(Resource):
    """One address whose methods are coroutines. HEAD is answered where GET is."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self, asks: Mapping[str, Ask], *, clock: IReactorTime, tasks: Tasks, patience: float = ANSWER_WITHIN
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self._asks = {method.encode(): ask for method, ask in asks.items()}
        self._clock = clock
        self._tasks = tasks
        self._patience = patience

    def render(self, request: Any) -> bytes | int:
        if request.postpath:
            return write_head(request, not_found())
        ask = self._asks.get(b"GET" if request.method == b"HEAD" else request.method)
        if ask is None:
            allowed = b", ".join(sorted(self._asks)).decode()
            return write_head(request, error_answer(405, "method_not_allowed", f"allowed: {allowed}", Allow=allowed))
        running = self._tasks.spawn("an HTTP answer", self._answer(ask, request))
        request.notifyFinish().addErrback(lambda _: running.cancel())
        return NOT_DONE_YET

    async def _answer(self, ask: Ask, request: Any) -> None:
        try:
            answer = await within(self._clock, self._patience, "the answer", ask(request))
        except StellarError as error:
            answer = answer_to(error)
        except CancelledError:  # whoever asked has left
            return
        except Exception:
            self._log.failure("answering {method} {path} failed", method=request.method, path=request.path)
            answer = error_answer(500, "internal", "a fault of the daemon's own; its log tells more")
        if answer is not None and request.channel is not None:
            send(request, answer)


class Nothing(Resource):
    """Every address that is not another's."""

    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        return write_head(request, not_found())


class Folder(Resource):
    """An address that only leads on to others."""

    def __init__(self, children: Mapping[str, IResource]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for name, child in children.items():
            self.putChild(name.encode(), child)

    def getChild(self, path: bytes, request: IRequest) -> IResource:
        nothing: IResource = Nothing()  # type: ignore[no-untyped-call]
        return nothing

    def render(self, request: IRequest) -> bytes:
        return write_head(request, not_found())


class ServersFolder(Folder):
    """An address whose next part is a server's id; `inside` makes what lies below it."""

    def __init__(self, inside: Callable[[str], IResource]) -> None:
        super().__init__({})
        self._inside = inside

    def getChild(self, path: bytes, request: IRequest) -> IResource:
        if not SERVER_ID_BYTES.fullmatch(path):
            return super().getChild(path, request)
        return self._inside(path.decode())
