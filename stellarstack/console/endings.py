"""Marks the ends of a server's runs in its scrollback, each after the last byte that the run printed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from stellarstack.console.notes import Notes
from stellarstack.console.scrollback import Scrollback
from stellarstack.core.messages import Json
from stellarstack.tasks import Tasks, sleep
from stellarstack.viewing import RunEvent

_LAST_BYTES = 5.0  # seconds after the end of a process in which its terminal may still speak


@dataclass(kw_only=True)
class Endings:
    """`speaks` tells whether the run's terminal is held still, `keep` writes the notes down."""

    scrollback: Scrollback
    notes: Notes
    clock: IReactorTime
    tasks: Tasks
    speaks: Callable[[], bool]
    keep: Callable[[], Coroutine[Any, Any, None]]
    _ending: RunEvent | None = None

    def ended(self, ending: RunEvent) -> dict[str, Json]:
        """The process is gone; `ending` has no offset yet. Answers what a status frame tells of it."""
        self._ending = ending
        self.settle()
        if self._ending is not None:
            self.tasks.spawn("the end of a run", self._last_bytes(ending))
        told = ending.to_json()
        return {key: told[key] for key in told if key not in ("offset", "event")}

    async def _last_bytes(self, ending: RunEvent) -> None:
        await sleep(self.clock, _LAST_BYTES)
        if self._ending is ending:
            self.settle(at_once=True)

    def settle(self, *, at_once: bool = False) -> None:
        """Marks the end, if all that the run printed is here; `at_once`: whatever may still come."""
        if self._ending is None or (self.speaks() and not at_once):
            return
        ending, self._ending = self._ending, None
        if self.notes.end_run(ending._replace(offset=self.scrollback.end)):
            self.tasks.spawn("console notes", self.keep())
