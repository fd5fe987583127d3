"""What is noted of one console beside its bytes, and where an earlier daemon's word cannot be proved (PROTOCOL 8)."""

from __future__ import annotations

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from stellarstack.console.notes import Notes, notes_from
from stellarstack.console.scrollback import GIVEN_OUT, Scrollback
from stellarstack.console.segments import Segments
from stellarstack.console.surroundings import Surroundings
from stellarstack.core.records import ServerStatus


class Notebook:
    """Keeps `notes` on disk, one write at a time. `stopped`: all that was said is kept; `discarded`: nothing is."""

    _log = Logger()

    def __init__(self, *, server_id: str, segments: Segments, scrollback: Scrollback, around: Surroundings) -> None:
        self._server_id = server_id
        self._segments = segments
        self._scrollback = scrollback
        self._around = around
        self._saving = DeferredLock()
        self._unproved_to: int | None = None  # viewers of an earlier daemon may have seen up to here what it lost
        self.notes = Notes()
        self.stopped = self.discarded = False

    async def load(self, status: ServerStatus) -> None:
        """Takes up what an earlier daemon kept, the scrollback too."""
        found = await self._around.in_thread(self._segments.notes)
        self.notes = notes_from(found if isinstance(found, dict) else {})
        await self._scrollback.load(self.notes.end)
        end = self._scrollback.end
        killed = status.has_process and (self.notes.runs or end) and self.notes.clean_at != end
        self._unproved_to = end + GIVEN_OUT if killed else None

    @property
    def doubtful(self) -> bool:
        """Whether an earlier daemon may have shown more than is known."""
        return self._unproved_to is not None

    def proved(self) -> None:
        """Nothing is missing."""
        self._unproved_to = None

    def gap(self) -> bool:
        """Something may be missing here; whether that is news to those who watch."""
        end, unproved_to, self._unproved_to = self._scrollback.end, self._unproved_to, None
        doubted = unproved_to is not None and self.notes.add_doubt(end, unproved_to)
        added = self.notes.add_gap(end)
        if doubted or added:
            self._around.tasks.spawn("console notes", self.save())
        return added

    async def save(self) -> None:
        """Writes them down as they are when it is their turn."""
        await self._saving.acquire()  # or an older word could overtake a newer one
        try:
            if not self.discarded:
                self.notes.end = end = self._scrollback.end
                self.notes.clean_at = end if self.stopped and self._unproved_to is None else None
                await self._around.in_thread(self._segments.note, self.notes.to_json())
        except OSError as error:
            self._log.error("notes on {server}'s console not kept: {reason}", server=self._server_id, reason=str(error))
        finally:
            self._saving.release()
