"""Pages of the past that one viewer asks for, one at a time (PROTOCOL 8, `history`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stellarstack.api.websocket_answers import history
from stellarstack.api.websocket_door import Door
from stellarstack.core.console_effects import History
from stellarstack.core.frames import Encoding
from stellarstack.core.messages import Json
from stellarstack.viewing import ConsoleFeed


class Pages:
    """Those of one session. `say` takes the answer, `refuse` an error's code and text."""

    def __init__(
        self, door: Door, encoding: Encoding, say: Callable[[Mapping[str, Json]], None],
        refuse: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._door = door
        self._encoding = encoding
        self._say = say
        self._refuse = refuse
        self._under_way = False

    def ask(self, feed: ConsoleFeed | None, asked: History, *, busy: bool) -> None:
        """`busy`: output waits for the viewer, so a page would too."""
        if self._under_way or busy:
            self._refuse("busy", "one page of history at a time, and none while output waits for you")
        elif feed is not None:
            self._under_way = True
            self._door.tasks.spawn("reading history", self._answer(feed, asked))

    async def _answer(self, feed: ConsoleFeed, asked: History) -> None:
        try:
            page = await feed.history(asked.before, asked.limit)
        finally:
            self._under_way = False
        runs = feed.runs(page.start, page.start + len(page.data))
        self._say(history(page, runs, self._encoding))
