"""Power actions ordered at a console: commands of the daemon's own making, answered by their events (PROTOCOL 8)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from stellarstack.api.websocket_door import Door
from stellarstack.core.events import command_refused
from stellarstack.core.frames import event_frame
from stellarstack.core.messages import Origin
from stellarstack.errors import StellarError

UNDER_WAY = 3  # of one session, and a kill beside them
_PROGRESS = "deployment.progress"


class PowerOrders:
    """Those of one session. `tell` takes a frame for it alone; the commands go on when the session ends."""

    _log = Logger()

    def __init__(self, door: Door, tell: Callable[[bytes], None]) -> None:
        self._door = door
        self._tell = tell
        self._server_id = ""
        self._under_way: dict[str, str] = {}  # command id -> action
        self._stop_listening: Callable[[], None] | None = None

    def order(self, server_id: str, action: str) -> str | None:
        """Sends the command in; answers its id. None: enough of them are under way."""
        others = [other for other in self._under_way.values() if other != "kill"]
        if len(others) >= UNDER_WAY if action != "kill" else "kill" in self._under_way.values():
            return None
        command_id = f"ws_{secrets.token_hex(12)}"
        self._server_id = server_id
        self._under_way[command_id] = action
        if self._stop_listening is None:
            self._stop_listening = self._door.bus.listen(self._hear)
        # on its own: who leaves must not break off what the journal may hold already
        self._door.tasks.spawn("a power action", self._send(command_id, action))
        return command_id

    async def _send(self, command_id: str, action: str) -> None:
        kind = f"server.{action}"
        envelope = {"id": command_id, "type": kind, "payload": {"serverId": self._server_id}}
        try:
            await self._door.intake.receive(json.dumps(envelope).encode(), Origin.CONSOLE)
        except StellarError as error:
            self._failed(command_id, kind, error)
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._log.failure("a power action for {server} could not be taken", server=self._server_id)
            self._failed(command_id, kind, StellarError("a fault of the daemon's own; its log tells more"))

    def _failed(self, command_id: str, kind: str, error: StellarError) -> None:
        """Nothing was kept, and nobody else is told."""
        event = command_refused(
            self._door.node_id, self._door.now(), error,
            command_id=command_id, command=kind, server_id=self._server_id, durable=False,
        )  # fmt: skip
        if self._under_way.pop(command_id, None) is not None:
            self._tell(event_frame(event.encode()))
        self._rest()

    def _hear(self, kind: str, body: bytes) -> None:
        """Every event of the node; what is about these commands is passed on as it is."""
        if kind == _PROGRESS:
            if json.loads(body).get("serverId") == self._server_id:
                self._tell(event_frame(body))
        elif kind.startswith("command.") and b'"ws_' in body:
            command_id = json.loads(body).get("commandId")
            if command_id in self._under_way:
                if kind == "command.result":
                    del self._under_way[command_id]
                self._tell(event_frame(body))
                self._rest()

    def _rest(self) -> None:
        if not self._under_way:
            self.stop()

    def stop(self) -> None:
        """The session is over: nobody hears of them here."""
        self._under_way.clear()
        stop, self._stop_listening = self._stop_listening, None
        if stop is not None:
            stop()
