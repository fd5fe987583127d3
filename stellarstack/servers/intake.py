"""Where every command enters: opened, read, journaled, acknowledged, then sent to its lane; refusals are answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.bus import Bus
from stellarstack.core.codec import RefusedMessage
from stellarstack.core.events import command_ack, command_refused, node_alert
from stellarstack.core.messages import Command, Origin
from stellarstack.core.requests import Request, read_request
from stellarstack.errors import InvalidCommand, StellarError
from stellarstack.interfaces import AcceptStatus
from stellarstack.tasks import Tasks, sleep

TRANSIENT_PER_SECOND = 10
DURABLE_PER_SECOND = 100
LOGGED_PER_SECOND = 10
ALERT_EVERY = 60.0  # seconds
ALERT_AFTER = 1.0  # seconds: the first of a burst waits for the rest


@dataclass(slots=True)
class _Allowance:
    """So many a second; `take` says whether one more is allowed."""

    per_second: int
    second: int = 0
    used: int = 0

    def take(self, now: float) -> bool:
        if int(now) != self.second:
            self.second, self.used = int(now), 0
        self.used += 1
        return self.used <= self.per_second


class CommandIntake:
    """Meets interfaces.Intake. `open_envelope` judges the bytes; `submit` takes over what was accepted."""

    _log = Logger()

    def __init__(
        self, *, open_envelope: Callable[[bytes, Origin, str | None], Command | RefusedMessage],
        submit: Callable[[Command, Request], None], bus: Bus, node_id: str,
        clock: IReactorTime, now: Callable[[], float], tasks: Tasks,
    ) -> None:  # fmt: skip
        self._open = open_envelope
        self._submit = submit
        self._bus = bus
        self._node_id = node_id
        self._clock = clock
        self._now = now
        self._tasks = tasks
        self._transient = _Allowance(TRANSIENT_PER_SECOND)
        self._durable = _Allowance(DURABLE_PER_SECOND)
        self._logged = _Allowance(LOGGED_PER_SECOND)
        self._rejected = 0
        self._alerted = float("-inf")

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        """Answers once the message is journaled or refused (interfaces.Intake)."""
        opened = self._open(raw, origin, entry_id)
        if isinstance(opened, RefusedMessage):
            await self._refuse(opened.error, opened.command_id, opened.command, opened.server_id)
            return
        try:
            request = read_request(opened)
        except StellarError as error:
            await self._refuse(error, opened.id, opened.type, opened.server_id)
            return
        await self._accept(opened, request)

    async def _accept(self, command: Command, request: Request) -> None:
        accepted = await self._bus.accept(command, command_ack(command, self._node_id, self._now()))
        if accepted.status is AcceptStatus.NEW:
            self._submit(command, request)
        elif accepted.status is AcceptStatus.CONFLICT:
            error = InvalidCommand("this id belongs to another command already; give each command an id of its own")
            await self._refuse(error, command.id, command.type, command.server_id)

    async def _refuse(
        self, error: StellarError, command_id: str | None, command: str | None, server_id: str | None
    ) -> None:
        now = self._now()
        durable = command_id is not None and self._durable.take(now)
        if command_id is None and not self._transient.take(now):
            self._count(now)
            return
        event = command_refused(
            self._node_id, now, error,
            command_id=command_id, command=command, server_id=server_id, durable=durable,
        )  # fmt: skip
        await self._bus.emit(event)
        if self._logged.take(now):
            self._log.warn("refused a command: {code}, {reason}", code=error.code, reason=str(error)[:300])

    def _count(self, now: float) -> None:
        """Refusals beyond the allowance are told together, at most once a minute."""
        self._rejected += 1
        if self._rejected == 1:
            wait = max(ALERT_AFTER, self._alerted + ALERT_EVERY - now)
            self._tasks.spawn("alert of refused messages", self._alert(wait))

    async def _alert(self, wait: float) -> None:
        await sleep(self._clock, wait)
        self._alerted = self._now()
        count, self._rejected = self._rejected, 0
        text = f"{count} messages on the commands channel were refused and not answered one by one"
        await self._bus.emit(
            node_alert(self._node_id, self._alerted, "warning", "messages_rejected", text, count=count)
        )
