"""One command over the control socket: sent in, its events told as JSON lines up to its result (PROTOCOL 10)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.api.http_answers import Answer, answer_to, error_answer, send
from stellarstack.api.http_lines import LineStream
from stellarstack.core.codec import RefusedMessage, peek, refusal_of, server_id_of, strict_object
from stellarstack.core.messages import Json, Origin
from stellarstack.errors import InvalidCommand, StellarError
from stellarstack.interfaces import EventBus, Intake
from stellarstack.tasks import Tasks

# What is told beside ack and result, where it is about the command's server.
_ALONG = frozenset({"server.status", "deployment.progress", "install.output", "backup.progress"})
_UNANSWERED = (
    b'{"type":"stream.ended","error":{"code":"unavailable","message":'
    b'"refused: the node refuses more just now than it can answer"}}'
)
_TOO_SLOW = (
    b'{"type":"stream.dropped","error":{"code":"too_slow","message":'
    b'"the lines were not read in time; the command goes on"}}'
)
_STOPPING = (
    b'{"type":"stream.ended","error":{"code":"unavailable","message":'
    b'"the daemon stops; the command stands in its journal"}}'
)
_UNSURE = (
    b'{"type":"stream.ended","error":{"code":"unavailable","message":'
    b'"the daemon stops; send the command again, with its id, when it is back"}}'
)


class CommandDoor:
    """Takes commands over the control socket."""

    _log = Logger()

    def __init__(self, *, intake: Intake, bus: EventBus, clock: IReactorTime, tasks: Tasks) -> None:
        self._clock = clock
        self._tasks = tasks
        self._intake = intake
        self._bus = bus
        self._open: set[CommandStream] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def post(self, request: Any) -> Answer | None:
        """Answers with lines from the ack on; with an error where the message is no JSON object or nothing was kept."""
        raw, known = read_command(request.content.read())
        stream = CommandStream(request, self._clock, known, self._open.discard)
        stream.at_end(self._bus.listen(stream.hear))
        self._open.add(stream)
        # on its own: a sender who leaves must not break off what the journal may hold already
        self._tasks.spawn("a command of the control socket", self._receive(raw, stream))
        return None

    async def _receive(self, raw: bytes, stream: CommandStream) -> None:
        try:
            await self._intake.receive(raw, Origin.CONTROL)
        except StellarError as error:
            stream.fail(answer_to(error))
        except CancelledError:
            stream.break_off()
        except Exception:
            self._log.failure("a command of the control socket could not be taken")
            stream.fail(error_answer(500, "internal", "a fault of the daemon's own; its log tells more"))
        else:
            stream.received()

    def stop(self) -> None:
        """Ends every stream with a line that says why."""
        for stream in list(self._open):
            stream.stop()


def read_command(raw: bytes) -> tuple[bytes, RefusedMessage]:
    """The message to send in, with an id where it had none, and what it says it is. InvalidCommand: no JSON object.

    The id is None where it cannot be read: what comes of that is a refusal without an id.
    """
    nothing = InvalidCommand("")
    try:
        body = strict_object(raw.decode("utf-8"))
    except ValueError as error:
        raise InvalidCommand(f"the body is no JSON object that can be taken: {error}") from None
    if "signed" in body:
        inner = body["signed"]
        return raw, peek(inner.encode() if isinstance(inner, str) else b"", nothing)
    if body.get("id") is None:
        body["id"] = f"ctl_{secrets.token_hex(12)}"
        raw = json.dumps(body, ensure_ascii=False).encode()
    return raw, refusal_of(body, nothing)


class CommandStream:
    """The lines of one command. Events that come while the intake still judges are held back.

    The ack of our own message comes before `received`; so does the refusal. That tells our own result from an earlier
    one of the same id, which may come at the same moment.
    """

    def __init__(
        self, request: Any, clock: IReactorTime, known: RefusedMessage, ended: Callable[[CommandStream], None]
    ) -> None:  # fmt: skip
        self._request = request
        self._clock = clock
        self._command_id = known.command_id
        self._server_id = known.server_id
        self._ended = ended
        self._stop_listening: Callable[[], None] = lambda: None
        self._held: list[tuple[str, dict[str, Json], bytes]] = []
        self._lines: LineStream | None = None

    def at_end(self, stop_listening: Callable[[], None]) -> None:
        self._stop_listening = stop_listening

    def hear(self, kind: str, body: bytes) -> None:
        """Every event of the node; keeps what is about this command."""
        if not (kind in _ALONG or kind.startswith("command.")):
            return
        event = json.loads(body)
        if not self._concerns(kind, event):
            return
        if self._lines is None:
            self._held.append((kind, event, body))
        else:
            self._tell(kind, body)

    def received(self) -> None:
        """The intake has journaled or refused it: opens the answer."""
        if self._request.channel is None:
            self.give_up()
            return
        held, self._held = self._ours(), []
        self._lines = LineStream(self._request, self._clock, self.give_up)
        self._lines.open()
        for kind, body in held:
            self._tell(kind, body)
        if not held:
            self._lines.finish(_UNANSWERED)

    def break_off(self) -> None:
        """The daemon stops, and nobody knows whether the command was journaled."""
        if self._request.channel is None:
            self.give_up()
            return
        self._lines = LineStream(self._request, self._clock, self.give_up)
        self._lines.open()
        self._lines.finish(_UNSURE)

    def fail(self, answer: Answer) -> None:
        """Nothing was kept: answers with an error."""
        self.give_up()
        if self._request.channel is not None:
            send(self._request, answer)

    def stop(self) -> None:
        """The daemon stops."""
        if self._lines is not None:
            self._lines.finish(_STOPPING)

    def give_up(self) -> None:
        """Nobody listens any more, or there is nothing to hear; the command goes on."""
        self._stop_listening()
        self._ended(self)

    def _concerns(self, kind: str, event: dict[str, Json]) -> bool:
        if kind in _ALONG:
            return self._server_id is not None and server_id_of(event) == self._server_id
        return event.get("commandId") == self._command_id

    def _ours(self) -> list[tuple[str, bytes]]:
        """From our ack on; without an ack the newest refusal alone."""
        kinds = [kind for kind, _, _ in self._held]
        if "command.ack" in kinds:
            return [(kind, body) for kind, _, body in self._held[kinds.index("command.ack") :]]
        refusals = [
            (kind, body)
            for kind, event, body in self._held
            if kind == "command.result" and event.get("status") == "rejected"
        ]
        return refusals[-1:]

    def _tell(self, kind: str, body: bytes) -> None:
        if self._lines is None or self._lines.closed:
            return
        if kind == "command.result":
            self._lines.finish(body)
        elif kind in _ALONG:
            self._lines.offer(body)
        else:
            self._lines.must(body, _TOO_SLOW)
