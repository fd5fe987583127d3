"""The life of the node as a table of stages and inputs (PROTOCOL 6). Performs no I/O.

A state of the wire has several stages where the same input means different things: OFFLINE, say, because nobody has
registered the node, because its heartbeats do not get out, or because it was drained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from automat import NoTransition, TypeMachineBuilder

from stellarstack.errors import InvalidState

STORY_LENGTH = 8  # steps that a refusal tells


class NodeState(Enum):
    """A node's state as the wire tells it."""

    OFFLINE = "OFFLINE"
    STARTING = "STARTING"
    ONLINE = "ONLINE"
    UNHEALTHY = "UNHEALTHY"
    ERROR = "ERROR"
    DRAINING = "DRAINING"


class Stage(Enum):
    """Where in its life the node stands; finer than `NodeState`, and never on the wire."""

    UNREGISTERED = "unregistered"
    RESUMING = "resuming"  # not registered yet; was being drained when the daemon ended
    CONNECTING = "connecting"
    GREETING = "greeting"  # connected; the first heartbeat is not out yet
    ONLINE = "online"
    LATE = "late"  # was not connected in time
    SILENT = "silent"  # connected, or was once; heartbeats do not get out
    LOST = "lost"  # silent for so long that others call the node offline
    REFUSED = "refused"
    MENDED = "mended"  # connected after a refusal; the heartbeat that proves it is not out yet
    DRAINING = "draining"
    EMPTIED = "emptied"

    @property
    def state(self) -> NodeState:
        return _STATES[self]


_STATES: Mapping[Stage, NodeState] = {
    Stage.UNREGISTERED: NodeState.OFFLINE,
    Stage.RESUMING: NodeState.OFFLINE,
    Stage.CONNECTING: NodeState.STARTING,
    Stage.GREETING: NodeState.STARTING,
    Stage.ONLINE: NodeState.ONLINE,
    Stage.LATE: NodeState.UNHEALTHY,
    Stage.SILENT: NodeState.UNHEALTHY,
    Stage.LOST: NodeState.OFFLINE,
    Stage.REFUSED: NodeState.ERROR,
    Stage.MENDED: NodeState.ERROR,
    Stage.DRAINING: NodeState.DRAINING,
    Stage.EMPTIED: NodeState.OFFLINE,
}


class _Inputs(Protocol):
    """What can happen to a node."""

    def registered(self) -> Stage: ...
    def connected(self) -> Stage: ...
    def disconnected(self) -> Stage: ...
    def not_connected_in_time(self) -> Stage: ...
    def refused(self) -> Stage: ...
    def heartbeat_out(self) -> Stage: ...
    def heartbeats_missed(self) -> Stage: ...
    def heartbeats_lost(self) -> Stage: ...
    def drain(self) -> Stage: ...
    def drain_cancelled(self) -> Stage: ...
    def drained(self) -> Stage: ...


class _Nothing:
    """The machine remembers nothing beside its stage."""


_S = Stage
# What may be reported at any time once the node is registered.
_REPORTS = (
    "connected",
    "disconnected",
    "not_connected_in_time",
    "refused",
    "heartbeat_out",
    "heartbeats_missed",
    "heartbeats_lost",
)
# from -> input -> to. A report that a row does not name changes nothing; any other input that it does not is refused.
_TABLE: Mapping[Stage, Mapping[str, Stage]] = {
    _S.UNREGISTERED: {"registered": _S.CONNECTING, "drain": _S.RESUMING},
    _S.RESUMING: {"registered": _S.DRAINING, "drain": _S.RESUMING, "drain_cancelled": _S.UNREGISTERED},
    _S.CONNECTING: {
        "connected": _S.GREETING,
        "not_connected_in_time": _S.LATE,
        "refused": _S.REFUSED,
        "drain": _S.DRAINING,
    },
    _S.GREETING: {
        "heartbeat_out": _S.ONLINE,
        "disconnected": _S.CONNECTING,
        "not_connected_in_time": _S.SILENT,
        "refused": _S.REFUSED,
        "drain": _S.DRAINING,
    },
    _S.ONLINE: {
        "heartbeats_missed": _S.SILENT,
        "heartbeats_lost": _S.LOST,
        "refused": _S.REFUSED,
        "drain": _S.DRAINING,
    },
    _S.LATE: {"connected": _S.SILENT, "refused": _S.REFUSED, "drain": _S.DRAINING},
    _S.SILENT: {
        "heartbeat_out": _S.ONLINE,
        "heartbeats_lost": _S.LOST,
        "refused": _S.REFUSED,
        "drain": _S.DRAINING,
    },
    _S.LOST: {"heartbeat_out": _S.ONLINE, "refused": _S.REFUSED, "drain": _S.DRAINING},
    _S.REFUSED: {"connected": _S.MENDED, "drain": _S.DRAINING},
    _S.MENDED: {
        "heartbeat_out": _S.ONLINE,
        "disconnected": _S.REFUSED,
        "refused": _S.REFUSED,
        "drain": _S.DRAINING,
    },
    _S.DRAINING: {"drain": _S.DRAINING, "drain_cancelled": _S.ONLINE, "drained": _S.EMPTIED},
    _S.EMPTIED: {"drain": _S.EMPTIED, "drain_cancelled": _S.ONLINE, "drained": _S.EMPTIED},
}


def _build() -> Callable[[Stage], _Inputs]:
    builder = TypeMachineBuilder(_Inputs, _Nothing)
    stages: dict[Stage, Any] = {stage: builder.state(stage.value) for stage in Stage}
    for origin, row in _TABLE.items():
        unregistered = origin in (Stage.UNREGISTERED, Stage.RESUMING)
        reports = {} if unregistered else dict.fromkeys(_REPORTS, origin)
        for name, target in {**reports, **row}.items():
            stages[origin].upon(getattr(_Inputs, name)).to(stages[target]).returns(target)
    machine = builder.build()
    return lambda stage: machine(_Nothing(), stages[stage])


_machine_at = _build()

Changed = Callable[[NodeState, NodeState, str], None]


class NodeLifecycle:
    """The node's state. Inputs move it; listeners hear `(previous, state, reason)` of each change, in order.

    `draining`: the node was being drained when the daemon ended, so it goes on with that once it is registered; `drain`
    before `registered` says the same. An input that the stage refuses raises InvalidState.
    """

    def __init__(self, *, changed: Changed | None = None, draining: bool = False) -> None:
        self._stage = Stage.RESUMING if draining else Stage.UNREGISTERED
        self._machine = _machine_at(self._stage)
        self._listeners: list[Changed] = [changed] if changed else []
        self._changes: deque[tuple[NodeState, NodeState, str]] = deque()
        self._telling = False
        self._story: deque[str] = deque([self._stage.value], maxlen=STORY_LENGTH)
        self.reason = "not registered"

    @property
    def state(self) -> NodeState:
        return self._stage.state

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def draining(self) -> bool:
        """Whether the node starts nothing new, because it is to be, is being or has been emptied (PROTOCOL 7)."""
        return self._stage in (Stage.RESUMING, Stage.DRAINING, Stage.EMPTIED)

    def listen(self, changed: Changed) -> None:
        """Tells `changed(previous, state, reason)` of each change from now on."""
        self._listeners.append(changed)

    def registered(self) -> None:
        """The node has an id, and begins to connect."""
        resuming = self._stage is Stage.RESUMING
        self._take("registered", "drain goes on after a restart" if resuming else "registered")

    def connected(self) -> None:
        """Redis and Docker both answer."""
        self._take("connected", "Redis and Docker are connected")

    def disconnected(self, what: str) -> None:
        """One of them does not answer any more; `what` names it."""
        self._take("disconnected", f"{what} is not connected")

    def not_connected_in_time(self, seconds: float) -> None:
        """The time to connect after the start is over."""
        self._take("not_connected_in_time", f"not connected within {seconds:g} s")

    def refused(self, reason: str) -> None:
        """Redis or Docker answers, and wants nothing to do with us: trying alone does not help."""
        self._take("refused", reason)

    def heartbeat_out(self) -> None:
        """Redis has answered a heartbeat's PUBLISH in time."""
        self._take("heartbeat_out", "heartbeat out")

    def heartbeats_missed(self, count: int) -> None:
        """So many heartbeats in a row did not get out that the node is unhealthy."""
        self._take("heartbeats_missed", f"{count} heartbeats missed")

    def heartbeats_lost(self, count: int) -> None:
        """So many that others must take the node for offline."""
        self._take("heartbeats_lost", f"{count} heartbeats missed")

    def drain(self, reason: str = "drain asked for") -> None:
        """Admin action: the node is to be emptied. Of one that is being emptied already: no change."""
        self._take("drain", reason)

    def drain_cancelled(self) -> None:
        """Admin action: the node stays in service."""
        self._take("drain_cancelled", "drain cancelled")

    def drained(self) -> None:
        """No server is left."""
        self._take("drained", "no server is left")

    def _take(self, name: str, reason: str) -> None:
        try:
            stage: Stage = getattr(self._machine, name)()
        except NoTransition:
            story = " > ".join(self._story)
            raise InvalidState(f"the node is {self.state.value}: {name} does not fit (story: {story})") from None
        previous, self._stage = self._stage, stage
        if stage is previous:
            return
        self._story.append(f"{name}={stage.value}")
        if stage.state is not previous.state:
            self.reason = reason
            self._changes.append((previous.state, stage.state, reason))
            self._tell()

    def _tell(self) -> None:
        """Empties the changes in order, also where a listener makes the next change."""
        if self._telling:
            return
        self._telling = True
        try:
            while self._changes:
                change = self._changes.popleft()
                for listener in list(self._listeners):
                    listener(*change)
        finally:
            self._telling = False
