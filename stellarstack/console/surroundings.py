"""What every console of the node shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from stellarstack.config import ConsoleConfig
from stellarstack.console.large_frames import FramePages
from stellarstack.console.threads import InThread
from stellarstack.interfaces import Engine, EventBus
from stellarstack.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every console of the node shares."""

    engine: Engine
    directory: Path
    config: ConsoleConfig
    bus: EventBus
    node_id: str
    clock: IReactorTime
    tasks: Tasks
    now: Callable[[], float]
    in_thread: InThread
    packing: DeferredLock  # held by the one that compresses a segment
    pages: FramePages  # of frames that many viewers get
