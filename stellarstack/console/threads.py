"""How the console's rooms have blocking work done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class InThread(Protocol):
    """Runs blocking work away from the reactor."""

    def __call__(self, work: Callable[..., object], *args: object) -> Awaitable[object]: ...
