"""What a console needs of the operator's screen, and how it waits for it."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, Protocol


class Screen(Protocol):
    """Where a console shows its output and from where its keys come."""

    @property
    def interactive(self) -> bool:
        """Whether somebody types at a terminal."""

    @property
    def keys_ended(self) -> bool:
        """Whether the piped input is at its end."""

    def size(self) -> tuple[int, int] | None:
        """Columns and rows, 1 to 1000 each; None where the screen is no terminal."""

    def wait(self, others: list[Any], seconds: float, *, keys: bool) -> tuple[list[Any], bytes, bool]:
        """Which of `others` can be read, what was typed (`keys` false: not asked), whether the size has changed.

        After `seconds` at most. BrokenPipeError: nobody reads what is shown any more.
        """

    def show(self, output: bytes) -> None:
        """Output of the game."""

    def say(self, text: str) -> None:
        """A remark of stellarctl's own."""

    def warn(self, text: str) -> None:
        """A remark that must not be overlooked, such as a gap."""


def wait_for(others: Sequence[Any], seconds: float, screen: int) -> list[Any]:
    """Which of `others` (things with a file number) have something to read, after `seconds` at most.

    BrokenPipeError: `screen` is a pipe whose reader has gone.
    """
    poll = select.poll()
    numbers = {}
    for one in others:
        numbers[one if isinstance(one, int) else one.fileno()] = one
    for number in numbers:
        poll.register(number, select.POLLIN)
    if screen >= 0 and screen not in numbers:
        poll.register(screen, 0)
    found = dict(poll.poll(max(seconds, 0) * 1000))
    if screen not in numbers and found.pop(screen, 0) & select.POLLERR:
        raise BrokenPipeError
    return [one for number, one in numbers.items() if number in found]
