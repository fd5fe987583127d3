"""Walks over all files of a server, by child processes: a walk may take half an hour, so it has threads of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from threading import Lock

from twisted.internet.interfaces import IReactorTime

from stellarstack.errors import InvalidState, StellarError, TimedOut
from stellarstack.servers.steady import SteadyThreads
from stellarstack.servers.threads import Threads

WALKS = 3  # side by side, the others wait
WALK_MOST = 1800.0  # seconds


class Trees:
    """`threads` are few and wait for nobody else. `end` breaks every walk off; each is begun anew after the restart."""

    def __init__(self, *, threads: Threads, clock: IReactorTime, most: float = WALK_MOST) -> None:
        self._in_thread = SteadyThreads(threads, clock)
        self._most = most
        self._lock = Lock()
        self._walking: set[subprocess.Popen[str]] = set()
        self._ended = False

    async def hand_over(self, root: Path, uid: int, gid: int) -> None:
        """Gives the whole tree to the server's user, after an installer that had to be root. No link is followed (W10).

        StellarError: it could not. TimedOut: not in half an hour.
        """
        await self._in_thread(self._walk, "chown", "-R", "-h", "-P", f"{uid}:{gid}", "--", str(root))

    async def remove(self, root: Path) -> None:
        """Removes a folder and all in it; links are removed, never followed (W05). Errors as of `hand_over`."""
        await self._in_thread(self._walk, "rm", "-rf", "--one-file-system", "--", str(root))

    @property
    def walking(self) -> int:
        """How many walks are under way."""
        return len(self._walking)

    def end(self) -> None:
        """The daemon stops."""
        with self._lock:
            self._ended = True
            for child in self._walking:
                child.kill()

    def _walk(self, *words: str) -> None:
        """They walk trees of any depth, each folder opened from its parent; Python's own end at a thousand levels."""
        child = self._begin(words)
        try:
            _, told = child.communicate(timeout=self._most)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise TimedOut(f"{words[0]} {words[-1]} did not end within {self._most:g} s") from None
        finally:
            with self._lock:
                self._walking.discard(child)
        if child.returncode != 0:
            raise StellarError(f"{words[0]} {words[-1]}: {told.strip()[:300] or child.returncode}")

    def _begin(self, words: tuple[str, ...]) -> subprocess.Popen[str]:
        with self._lock:
            if self._ended:
                raise InvalidState(f"{words[0]} {words[-1]}: the daemon stops")
            none, pipe = subprocess.DEVNULL, subprocess.PIPE
            child = subprocess.Popen(words, text=True, errors="replace", stdin=none, stdout=none, stderr=pipe)  # noqa: S603
            self._walking.add(child)
            return child
