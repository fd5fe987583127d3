"""The life of one game server as a table of states and inputs (PROTOCOL 5). Performs no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from automat import NoTransition, TypeMachineBuilder

from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.errors import InvalidState

STORY_LENGTH = 8  # steps that a refusal tells


@dataclass(frozen=True, slots=True)
class Transition:
    """What became of an input: the state now, why, and the exit status where a process ended."""

    status: ServerStatus
    reason: StatusReason | None = None
    exit_code: int | None = None


class _Inputs(Protocol):
    """What can happen to a server."""

    def install_began(self) -> Transition: ...
    def install_ended(self) -> Transition: ...
    def start_began(self) -> Transition: ...
    def became_ready(self) -> Transition: ...
    def ready_overdue(self) -> Transition: ...
    def start_failed(self) -> Transition: ...
    def start_cancelled(self) -> Transition: ...
    def stop_began(self) -> Transition: ...
    def ended(self) -> Transition: ...
    def died(self) -> Transition: ...
    def found_running(self) -> Transition: ...
    def not_obeyed(self) -> Transition: ...


class _Nothing:
    """The machine remembers nothing beside its state."""


_S = ServerStatus
_R = StatusReason
# from -> input -> (to, reason). `ended`: exit status 0 and no OOM; `died`: any other end.
_TABLE: Mapping[ServerStatus, Mapping[str, tuple[ServerStatus, StatusReason | None]]] = {
    _S.STOPPED: {
        "install_began": (_S.INSTALLING, None),
        "start_began": (_S.STARTING, None),
        "found_running": (_S.RUNNING, _R.RECONCILED),
    },
    _S.CRASHED: {
        "install_began": (_S.INSTALLING, None),
        "start_began": (_S.STARTING, None),
        "start_failed": (_S.CRASHED, None),
        "found_running": (_S.RUNNING, _R.RECONCILED),
    },
    _S.INSTALLING: {"install_ended": (_S.STOPPED, None)},
    _S.STARTING: {
        "became_ready": (_S.RUNNING, None),
        "ready_overdue": (_S.STARTING, _R.READY_TIMEOUT),
        "start_failed": (_S.CRASHED, None),
        "start_cancelled": (_S.STOPPED, _R.USER),
        "stop_began": (_S.STOPPING, _R.USER),
        "ended": (_S.CRASHED, _R.EXIT),
        "died": (_S.CRASHED, _R.EXIT),
        "found_running": (_S.RUNNING, _R.RECONCILED),
    },
    _S.RUNNING: {
        "stop_began": (_S.STOPPING, _R.USER),
        "ended": (_S.STOPPED, _R.EXIT),
        "died": (_S.CRASHED, _R.EXIT),
        "found_running": (_S.RUNNING, _R.RECONCILED),
    },
    _S.STOPPING: {
        "stop_began": (_S.STOPPING, _R.USER),
        "ended": (_S.STOPPED, _R.USER),
        "died": (_S.STOPPED, _R.USER),
        "found_running": (_S.RUNNING, _R.RECONCILED),
        "not_obeyed": (_S.STARTING, None),
    },
}


def _build() -> Callable[[ServerStatus], _Inputs]:
    builder = TypeMachineBuilder(_Inputs, _Nothing)
    states: dict[ServerStatus, Any] = {status: builder.state(status.value) for status in ServerStatus}
    for origin, row in _TABLE.items():
        for name, (target, reason) in row.items():
            states[origin].upon(getattr(_Inputs, name)).to(states[target]).returns(Transition(target, reason))
    machine = builder.build()
    return lambda status: machine(_Nothing(), states[status])


_machine_at = _build()


class ServerLifecycle:
    """One server's state. An input answers the Transition; one that the state refuses raises InvalidState."""

    def __init__(self, server_id: str, status: ServerStatus = ServerStatus.STOPPED) -> None:
        self._server_id = server_id
        self._machine = _machine_at(status)
        self._story: deque[str] = deque([status.value], maxlen=STORY_LENGTH)
        self.last = Transition(status)

    @property
    def status(self) -> ServerStatus:
        return self.last.status

    def install_began(self) -> Transition:
        return self._take("install_began")

    def install_ended(self) -> Transition:
        return self._take("install_ended")

    def start_began(self) -> Transition:
        return self._take("start_began")

    def became_ready(self) -> Transition:
        """The ready check was met."""
        return self._take("became_ready")

    def ready_overdue(self) -> Transition:
        """The ready check was not met in its time; the process goes on."""
        return self._take("ready_overdue")

    def start_failed(self) -> Transition:
        """No process came of the start."""
        return self._take("start_failed")

    def start_cancelled(self) -> Transition:
        """Somebody ended the start before there was a process."""
        return self._take("start_cancelled")

    def stop_began(self) -> Transition:
        return self._take("stop_began")

    def found_running(self) -> Transition:
        """The engine says it runs, whatever we thought."""
        return self._take("found_running")

    def not_obeyed(self) -> Transition:
        """A typed stop did not end a server that was starting: it goes on starting."""
        return self._take("not_obeyed")

    def exited(self, exit_code: int | None, reason: StatusReason | None = None) -> Transition:
        """The process ended; `reason` is a cause that the exit status does not tell (oom, killed, docker_restart)."""
        clean = exit_code == 0 and reason not in (StatusReason.OOM, StatusReason.DOCKER_RESTART)
        return self._take("ended" if clean else "died", exit_code, reason)

    def _take(self, name: str, exit_code: int | None = None, reason: StatusReason | None = None) -> Transition:
        try:
            transition: Transition = getattr(self._machine, name)()
        except NoTransition:
            story = " > ".join(self._story)
            raise InvalidState(
                f"server {self._server_id} is {self.status.value}: {name} does not fit (story: {story})"
            ) from None
        self._story.append(f"{name}={transition.status.value}")
        self.last = replace(transition, exit_code=exit_code, reason=reason or transition.reason)
        return self.last
