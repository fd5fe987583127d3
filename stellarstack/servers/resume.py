"""What becomes of commands that were under way when the daemon died: taken up again where that is safe (PROTOCOL 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from stellarstack.core.messages import Command
from stellarstack.core.requests import (
    NodeShutdown,
    ReinstallServer,
    Request,
    RestartServer,
    StartServer,
    TypeLine,
    read_request,
)
from stellarstack.errors import Interrupted, StellarError
from stellarstack.interfaces import JournalEntry
from stellarstack.servers.household import Household

# Done twice, these would be felt: a line typed again, a script run again, a daemon that ends at every start.
_NOT_TWICE = (TypeLine, ReinstallServer, NodeShutdown)


@dataclass(frozen=True, slots=True)
class Resumed:
    """`again`: to be placed in their lanes (command, request, had begun). `lost`: to be answered with the error."""

    again: tuple[tuple[Command, Request, bool], ...]
    lost: tuple[tuple[Command, StellarError], ...]


def sort_out(entries: Iterable[JournalEntry], household: Household) -> Resumed:
    """Judges the journal's unfinished commands, in their order, once the household is true again."""
    again: list[tuple[Command, Request, bool]] = []
    lost: list[tuple[Command, StellarError]] = []
    for entry in entries:
        try:
            request = read_request(entry.command)
        except StellarError as error:
            lost.append((entry.command, error))
            continue
        if entry.begun is None:
            again.append((entry.command, request, False))
        elif isinstance(request, _NOT_TWICE):
            text = f"{entry.command.type} was under way when the daemon died; send it anew if it is still wanted"
            lost.append((entry.command, Interrupted(text)))
        else:
            again.append((_undated(entry.command), _rest_of(request, entry.begun, household), True))
    return Resumed(tuple(again), tuple(lost))


def _undated(command: Command) -> Command:
    """Once begun a command does not expire."""
    return replace(command, expires_at=None)


def _rest_of(request: Request, begun: float, household: Household) -> Request:
    """A restart whose new process runs already is not done a second time."""
    if isinstance(request, RestartServer):
        server = household.find(request.server_id)
        if server is not None and server.started_at is not None and server.started_at >= begun:
            return StartServer(request.server_id)
    return request
