"""Which project number belongs to which server, kept in the store: one each, the same for its whole life."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from zlib import crc32

from stellarstack.core.messages import Json
from stellarstack.errors import InsufficientResources

KEY = "files.projects"
FIRST = 0x53540000  # far from the small numbers that people write into /etc/projid
COUNT = 1 << 20


class Values(Protocol):
    """The store's named values."""

    async def get_value(self, key: str) -> Json: ...

    async def put_value(self, key: str, value: Json) -> None: ...


@dataclass(frozen=True, slots=True)
class Project:
    """`whole`: the server's tree was put into it to the last file."""

    number: int
    whole: bool = False


class Projects:
    """`load` first. StoreFailed: nothing was kept, and what was known holds."""

    def __init__(self, store: Values) -> None:
        self._store = store
        self._of: dict[str, Project] = {}

    async def load(self) -> None:
        """Reads what was kept; entries that make no sense are left out, and their servers get a number anew."""
        kept = await self._store.get_value(KEY)
        rows = kept if isinstance(kept, Mapping) else {}
        self._of = {server_id: project for server_id, row in rows.items() if (project := _read(row)) is not None}

    def get(self, server_id: str) -> Project | None:
        return self._of.get(server_id)

    def choose(self, server_id: str, in_use: Callable[[int], bool]) -> Project:
        """A number for a server that has none, derived from its id, so that a lost database finds the same again.

        `in_use(number)`: somebody else's files are in that project. Blocks as long as it does. InsufficientResources:
        none is free.
        """
        taken = {project.number for project in self._of.values()}
        start = crc32(server_id.encode())
        for step in range(COUNT):
            number = FIRST + (start + step) % COUNT
            if number not in taken and not in_use(number):
                return Project(number)
        raise InsufficientResources("no project number is free for a disk limit")

    async def keep(self, server_id: str, project: Project) -> None:
        if self._of.get(server_id) != project:
            self._of[server_id] = project
            await self._save()

    async def finished(self, server_id: str) -> None:
        """All of the server's tree is in its project."""
        await self.keep(server_id, replace(self._of[server_id], whole=True))

    async def drop(self, server_id: str) -> None:
        if self._of.pop(server_id, None) is not None:
            await self._save()

    async def _save(self) -> None:
        await self._store.put_value(KEY, {key: [one.number, one.whole] for key, one in sorted(self._of.items())})


def _read(row: Json) -> Project | None:
    match row:
        case [int(number), bool(whole)] if FIRST <= number < FIRST + COUNT:
            return Project(number, whole)
    return None
