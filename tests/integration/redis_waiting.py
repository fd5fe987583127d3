"""Waiting on the real reactor, bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor

from stellarstack.tasks import sleep, within

clock: Any = reactor


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Returns once `condition()` is true; TimedOut after `seconds`."""

    async def poll() -> None:
        while not condition():
            await sleep(clock, 0.01)

    await within(clock, seconds, what, poll())
