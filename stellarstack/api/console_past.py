"""`/api/v1/servers/{id}/console/search` and `…/download`: what a console said before (PROTOCOL 9)."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime

from stellarstack.api.http_answers import Answer, Ask, error_answer, json_answer
from stellarstack.api.http_body import BodyStream
from stellarstack.api.http_query import BadQuery, Query, TokenDoor
from stellarstack.core.asciicast import CONTENT_TYPE
from stellarstack.core.claims import Claims
from stellarstack.core.line_search import LineMatcher
from stellarstack.core.messages import Json
from stellarstack.core.patterns import BadPattern
from stellarstack.errors import ServerNotFound
from stellarstack.tasks import Tasks
from stellarstack.viewing import (
    ConsoleArchive,
    ConsoleArchives,
    DownloadFormat,
    DownloadRequest,
    SearchMatch,
    SearchRequest,
)

_LIMIT, _LIMIT_MOST = 100, 1000
_OFFSET_MOST = 10**18 - 1
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")
_ENDINGS = {
    DownloadFormat.TEXT: ("txt", "text/plain; charset=utf-8"),
    DownloadFormat.ASCIINEMA: ("cast", CONTENT_TYPE),
}


class Slots:
    """At most `each` at once of one server, `all_` of the node."""

    def __init__(self, each: int, all_: int) -> None:
        self._each = each
        self._all = all_
        self._taken: Counter[str] = Counter()

    def take(self, server_id: str) -> Callable[[], None] | None:
        """Answers how to give the place back; None: there is none."""
        if self._taken[server_id] >= self._each or self._taken.total() >= self._all:
            return None
        self._taken[server_id] += 1
        return partial(self._leave, server_id)

    def _leave(self, server_id: str) -> None:
        self._taken[server_id] -= 1
        self._taken = +self._taken


@dataclass(frozen=True, slots=True, kw_only=True)
class PastLimits:
    """How many at once: of one server, of the node."""

    searches_each: int = 1
    searches: int = 4
    downloads_each: int = 4
    downloads: int = 16


class PastDoor:
    """Both addresses, of every server. Each needs a token with console.read for that server."""

    def __init__(
        self, *, archives: ConsoleArchives, admission: TokenDoor, clock: IReactorTime, tasks: Tasks,
        now: Callable[[], float], limits: PastLimits | None = None,
    ) -> None:  # fmt: skip
        self._archives = archives
        self._admission = admission
        self._clock = clock
        self._tasks = tasks
        self._now = now
        limits = limits or PastLimits()
        self._searches = Slots(limits.searches_each, limits.searches)
        self._downloads = Slots(limits.downloads_each, limits.downloads)
        self._under_way: dict[BodyStream, Claims] = {}

    def asks(self, server_id: str) -> dict[str, Ask]:
        """The addresses below `console` of one server."""
        return {"search": partial(self.search, server_id), "download": partial(self.download, server_id)}

    def revoke(self, jti: str | None = None, user_id: str | None = None, server_id: str | None = None) -> None:
        """Breaks off the downloads of the tokens that are meant (K24)."""
        for stream, claims in list(self._under_way.items()):
            if claims.meant(jti, user_id, server_id):
                stream.break_off()

    async def _archive(self, request: Any, server_id: str) -> tuple[ConsoleArchive, Claims]:
        claims = await self._admission.admit(request, server_id, "console.read")
        archive = self._archives.archive(server_id)
        if archive is None:
            raise ServerNotFound("no such server")
        return archive, claims

    async def search(self, server_id: str, request: Any) -> Answer | None:
        """See PROTOCOL 9. The errors of TokenDoor."""
        archive, _ = await self._archive(request, server_id)
        try:
            wanted = _search_of(Query(request.uri))
        except BadQuery as error:
            return error.answer()
        leave = self._searches.take(server_id)
        if leave is None:
            return _busy("one search of a server at a time, and few of a node")
        try:
            page = await archive.search(wanted)
        finally:
            leave()
        told: dict[str, Json] = {"matches": [_match(found) for found in page.matches]}
        told |= {"first": page.first, "end": page.end, "more": page.before is not None}
        return json_answer(200, told if page.before is None else {**told, "before": page.before})

    async def download(self, server_id: str, request: Any) -> Answer | None:
        """See PROTOCOL 9. The errors of TokenDoor."""
        archive, claims = await self._archive(request, server_id)
        try:
            wanted = _download_of(Query(request.uri))
        except BadQuery as error:
            return error.answer()
        leave = self._downloads.take(server_id)
        if leave is None:
            return _busy("too many downloads at once")
        if request.channel is None:  # whoever asked has left
            leave()
            return None
        ending, content_type = _ENDINGS[wanted.format]
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now()))
        name = _NOT_IN_NAMES.sub("_", f"{server_id}-{moment}.{ending}")
        head = Answer(200, b"", content_type, {"Content-Disposition": f'attachment; filename="{name}"'})

        def ended() -> None:
            self._under_way.pop(stream, None)
            leave()

        stream = BodyStream(request, archive.download(wanted).next, clock=self._clock, ended=ended)
        self._under_way[stream] = claims
        stream.start(self._tasks, head)
        return None


def _search_of(query: Query) -> SearchRequest:
    text = query.text("q")
    if not text:
        raise BadQuery("q, what to look for, is missing")
    try:
        matcher = LineMatcher(text, regex=query.flag("regex"), case=query.flag("case"))
    except BadPattern as error:
        raise BadQuery(f"q {error}") from None
    limit = query.number("limit", 1, _LIMIT_MOST)
    return SearchRequest(matcher, _LIMIT if limit is None else limit, query.number("before", 0, _OFFSET_MOST))


def _download_of(query: Query) -> DownloadRequest:
    wanted = query.choice("format", *(known.value for known in DownloadFormat)) or DownloadFormat.TEXT.value
    start, to = query.number("from", 0, _OFFSET_MOST), query.number("to", 0, _OFFSET_MOST)
    last_run = query.choice("run", "last") is not None
    return DownloadRequest(DownloadFormat(wanted), start, to, last_run)


def _match(found: SearchMatch) -> Json:
    told: dict[str, Json] = {"offset": found.offset, "line": found.text}
    return told if found.at is None else {**told, "timestamp": round(found.at, 3)}


def _busy(message: str) -> Answer:
    return error_answer(429, "busy", message, Retry_After="1")
