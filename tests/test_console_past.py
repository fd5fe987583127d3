"""Search and download of a console's past: from the terminal's bytes to the HTTP answer (PROTOCOL 9)."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource

from stellarstack.api.console_past import PastDoor, PastLimits
from stellarstack.api.health import NodeHealth
from stellarstack.api.http import DaemonSite
from stellarstack.api.http_query import TokenDoor
from stellarstack.api.site import make_site
from stellarstack.config import ConsoleConfig
from stellarstack.console.times import MARKS_MOST
from stellarstack.core.records import PtySize, ServerStatus
from tests.api_wire import Got, Peer
from tests.test_console import ConsoleCase
from tests.ws_client import settle

EPOCH = 1.7e9  # of ConsoleCase's wall clock


class Health:
    async def __call__(self) -> Any:
        return NodeHealth("node_t", "ONLINE", 1.0, {})


async def _metrics() -> tuple[str, str]:
    return "", "text/plain"


class OnePiecePeer(Peer):
    """Reads one piece of an answer's body, and no more before `read_again`."""

    def __init__(self, site: DaemonSite) -> None:
        super().__init__(site)
        self.pieces = 0
        self._write = self.wire.write
        setattr(self.wire, "write", self._take)  # noqa: B010
        setattr(self.wire, "writeSequence", lambda parts: self._take(b"".join(parts)))  # noqa: B010

    def _take(self, piece: bytes) -> None:
        self._write(piece)
        if len(piece) > 1000:  # not the head
            self.pieces += 1
            self.stop_reading()


class PastCase(ConsoleCase):
    """A node with srv_1, its console and the daemon's own site."""

    def setUp(self) -> None:
        super().setUp()
        self.limits = PastLimits()

    def boot(self) -> None:
        super().boot()
        self.rooms.tokens.add("good")
        self.rooms.directory.servers["srv_1"] = ServerStatus.RUNNING
        rooms = self.rooms
        self.door = PastDoor(
            archives=rooms.consoles, admission=TokenDoor(rooms.tokens, rooms.directory), clock=self.clock,
            tasks=rooms.tasks, now=lambda: EPOCH + self.clock.seconds(),
        )  # fmt: skip
        self.site = make_site(
            reactor=self.clock, tasks=rooms.tasks, health=Health(), metrics=_metrics, metrics_token=None,
            console=Resource(), past=self.door,
        )  # fmt: skip

    def peer(self, target: str, token: str | None = "good", method: str = "GET") -> Peer:
        peer = Peer(self.site)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        peer.ask(method, target, None, **headers)
        settle(self.clock)
        return peer

    def get(self, what: str, token: str | None = "good", server: str = "srv_1") -> Got:
        return self.peer(f"/api/v1/servers/{server}/console/{what}", token).answer

    def matches(self, query: str) -> list[tuple[int, str]]:
        return [(found["offset"], found["line"]) for found in self.get(f"search?{query}").json["matches"]]


class AdmissionTests(PastCase):
    """Who may ask, and what those are told who may not."""

    def test_the_table_of_cases(self) -> None:
        """PROTOCOL 8's table for a header token; C03, W16: a token is for one server and for what it lists."""
        tokens, files = self.rooms.tokens, frozenset({"files.read", "backups.read", "stats.read", "console.write"})
        tokens.add("files", permissions=files)
        tokens.add("gone", server="srv_gone")
        tokens.add("other", server="srv_2")
        rows: list[tuple[str | None, str, int, str]] = [
            (None, "srv_1", 401, "unauthorized"),
            ("bad", "srv_1", 401, "unauthorized"),
            ("expired", "srv_1", 401, "token_expired"),
            ("revoked", "srv_1", 403, "forbidden"),
            ("files", "srv_1", 403, "forbidden"),
            ("other", "srv_1", 403, "forbidden"),
            ("good", "srv_2", 403, "forbidden"),
            ("gone", "srv_gone", 404, "server_not_found"),
        ]
        for what in ("search?q=x", "download"):
            for token, server, status, code in rows:
                got = self.get(what, token, server)
                self.assertEqual((got.status, got.json["error"]["code"]), (status, code), (what, token, server))
                self.assertEqual(got.headers.get("www-authenticate"), "Bearer" if status == 401 else None)
            self.assertEqual(self.get(what, "other").body, self.get(what, "other", "srv_unknown").body)
            self.assertEqual(self.get(what).status, 200)

    def test_addresses(self) -> None:
        """Only these, only by GET; an id that can be none is no server's."""
        for target in ("", "/", "/srv_1", "/srv_1/console", "/srv_1/console/other", "/srv_1/console/search/x",
                       "/a%2Fb/console/search", "/../console/search", "/%00/console/search"):  # fmt: skip
            self.assertEqual(self.peer("/api/v1/servers" + target).answer.status, 404, target)
        self.assertEqual(self.peer("/api/v1/servers/srv_1/console/search?q=x", method="POST").answer.status, 405)

    def test_bad_queries(self) -> None:
        """Each is refused with words that name the parameter; a token in a URL is refused as at the console."""
        rows = [
            ("search", "q"), ("search?q=", "q"), ("search?q=" + "a" * 257, "q"), ("search?q=(&regex=1", "q"),
            ("search?q=(%3F%3Da)&regex=1", "q"), ("search?q=a&q=b", "q"), ("search?q=%ff", "query"),
            ("search?q=a&limit=0", "limit"), ("search?q=a&limit=1001", "limit"), ("search?q=a&limit=x", "limit"),
            ("search?q=a&before=-1", "before"), ("search?q=a&before=1.5", "before"), ("search?q=a&regex=2", "regex"),
            ("search?q=a&token=good", "token"), ("download?format=html", "format"), ("download?from=-1", "from"),
            ("download?to=x", "to"), ("download?run=first", "run"), ("download?token=good", "token"),
        ]  # fmt: skip
        for what, word in rows:
            got = self.get(what)
            self.assertEqual((got.status, got.json["error"]["code"]), (400, "invalid_request"), what)
            self.assertIn(word, got.json["error"]["message"])


class SearchTests(PastCase):
    """Newest first, page by page, in bounded work."""

    def test_an_answer(self) -> None:
        """Lines without escape codes, their offsets and the times at which they came."""
        self.run_game()
        self.say("\x1b[32mready\x1b[0m to go\r\n", after=5)
        self.say("nothing\r\n", after=5)
        self.say("READY again\r\n")
        answer = self.get("search?q=ready").json
        self.assertEqual(answer, {"matches": [
            {"offset": 31, "line": "READY again", "timestamp": EPOCH + 10},
            {"offset": 0, "line": "ready to go", "timestamp": EPOCH},
        ], "first": 0, "end": 44, "more": False})  # fmt: skip
        self.assertEqual(self.matches("q=ready&case=1"), [(0, "ready to go")])
        self.assertEqual(self.matches("q=%5Eready&regex=1&case=1"), [(0, "ready to go")])

    def test_pages(self) -> None:
        """K15: every line of a long past is found once, page after page, from disk and memory, over a restart."""
        self.run_game()
        lines = [f"{number:06d} {'player' if number % 7 == 0 else 'nobody'} joined\n" for number in range(60_000)]
        for start in range(0, len(lines), 5000):
            self.say("".join(lines[start : start + 5000]), after=0.1)
        self.now(self.rooms.consoles.stop())
        self.boot()
        found: list[tuple[int, str]] = []
        before = ""
        for _ in range(100):
            page = self.get(f"search?q=player&limit=1000{before}").json
            found += [(match["offset"], match["line"]) for match in page["matches"]]
            if not page["more"]:
                break
            before = f"&before={page['before']}"
        width = len(lines[0])
        self.assertEqual(found, [(n * width, lines[n][:-1]) for n in reversed(range(0, 60_000, 7))])

    def test_limits(self) -> None:
        """One of a server at a time, few of the node: 429 beyond; one whose asker has left makes room."""
        self.run_game()
        self.say("x\n" * 100)
        for number in range(2, 7):
            self.now(self.rooms.open(f"srv_{number}"))
            self.rooms.tokens.add(f"t{number}", server=f"srv_{number}")
        held: list[Deferred[None]] = []

        async def slowly(work: Any, *args: Any) -> Any:
            held.append(Deferred())
            await held[-1]
            return work(*args)

        for console in self.rooms.consoles._consoles.values():
            console._around = console._around.__class__(**{**_fields(console._around), "in_thread": slowly})
            console.output_from(console._sink, b"x\n") if console._sink else console._output(b"x\n")
        first = self.peer("/api/v1/servers/srv_1/console/search?q=x")
        self.assertEqual(self.get("search?q=x").status, 429)
        waiting = [self.peer(f"/api/v1/servers/srv_{n}/console/search?q=x", f"t{n}") for n in (2, 3, 4)]
        refused = self.get("search?q=x", "t5", "srv_5")
        self.assertEqual((refused.status, refused.json["error"]["code"]), (429, "busy"))
        self.assertEqual(refused.headers["retry-after"], "1")
        first.leave()
        waiting.append(self.peer("/api/v1/servers/srv_5/console/search?q=x", "t5"))
        while held:
            held.pop(0).callback(None)
            settle(self.clock)
        self.assertEqual([peer.answer.status for peer in waiting], [200] * 4)
        self.assertEqual(first.raw, b"")

    def test_stops_after_some_work(self) -> None:
        """A search that takes too long answers with what it has and where to go on."""
        self.run_game()
        self.say(b"%09d\n" % 7 * 200_000, after=0.1)

        async def slowly(work: Any, *args: Any) -> Any:
            self.clock.rightNow += 4
            return work(*args)

        self.console._around = self.console._around.__class__(**{**_fields(self.console._around), "in_thread": slowly})
        page = self.get("search?q=nothing").json
        self.assertEqual((page["matches"], page["more"]), ([], True))
        self.assertTrue(0 < page["before"] < 2_000_000)

    def test_lost_bytes(self) -> None:
        """K16: what the disk lost is passed over."""
        self.run_game()
        for number in range(300):
            self.say(f"{number:06d} line\n" * 1000, after=0.1)
        for segment in sorted((self.folder / "srv_1").glob("*.log"))[:1]:
            segment.write_bytes(b"")
        oldest = self.matches("q=line&limit=1000")
        self.assertEqual(len(oldest), 1000)
        self.assertEqual(self.matches("q=000000&limit=1000"), [])
        self.assertEqual(len(self.matches("q=000299&limit=1000")), 1000)


def _fields(around: Any) -> dict[str, Any]:
    return {name: getattr(around, name) for name in around.__slots__}


class DownloadTests(PastCase):
    """The whole past, never whole in memory."""

    def test_text(self) -> None:
        """C04: plain text as an attachment that no browser takes for a page."""
        self.run_game()
        self.say("\x1b[32mgreen\x1b[0m\r\n<script>alert(1)</script>\r\n10%\r20%\n\xff".encode("latin-1"))
        got = self.get("download")
        self.assertEqual(got.body.decode(), "green\n<script>alert(1)</script>\n10%\n20%\n\ufffd")
        self.assertEqual(got.headers["content-type"], "text/plain; charset=utf-8")
        self.assertRegex(
            got.headers["content-disposition"], r'\Aattachment; filename="srv_1-20231114T\d{6}Z\.txt"\Z'
        )  # fmt: skip
        self.assertEqual((got.headers["x-content-type-options"], got.headers["cache-control"]), ("nosniff", "no-store"))
        self.assertEqual(self.get("download?from=2&to=9").body, b"32mgree")
        self.assertEqual(self.get("download?from=5000&to=1").body, b"")
        head = self.peer("/api/v1/servers/srv_1/console/download", method="HEAD")
        self.assertEqual([found.status for found in head.answers(to_head=True)], [200])
        self.assertEqual(self.get("download").status, 200)

    def test_a_long_past(self) -> None:
        """Exact to the byte over disk and memory, and what comes meanwhile is not in it."""
        self.run_game()
        whole = ""
        for number in range(300):
            piece = f"é{number:06d}\n" * 500
            whole += piece
            self.say(piece, after=0.1)
        peer = Peer(self.site)
        peer.ask("GET", "/api/v1/servers/srv_1/console/download", None, Authorization="Bearer good")
        self.say("later\n")
        settle(self.clock)
        self.assertEqual(peer.answer.body.decode(), whole)

    def test_a_slow_reader(self) -> None:
        """Backpressure: nothing is read ahead of it; after a minute in which it takes nothing it is dropped."""
        self.run_game()
        self.say(b"0123456789abcde\n" * 200_000, after=0.1)
        peer = OnePiecePeer(self.site)
        peer.ask("GET", "/api/v1/servers/srv_1/console/download", None, Authorization="Bearer good")
        settle(self.clock, 30)
        self.assertEqual(peer.pieces, 1)
        peer.read_again()
        settle(self.clock, 30)
        self.assertEqual(peer.pieces, 2)
        settle(self.clock, 61)
        self.assertTrue(peer.wire.aborted)
        self.assertEqual(self.rooms.tasks.names(), [])
        self.flushLoggedErrors()

    def test_revoked_in_the_middle(self) -> None:
        """K24: at about half of it a revoke breaks a download off at once; others go on, and its place is free."""
        self.rooms.tokens.add("second", user_id="usr_2")
        self.run_game()
        self.say(b"0123456789abcde\n" * 200_000, after=0.1)
        peers = []
        for token in ("good", "good", "second"):
            peer = OnePiecePeer(self.site)
            peer.ask("GET", "/api/v1/servers/srv_1/console/download", None, Authorization=f"Bearer {token}")
            settle(self.clock)
            peers.append(peer)
        for nothing in ((), (None, "usr_1", "srv_2"), ("jti-good", "usr_2"), (None, None, "srv_2")):
            self.door.revoke(*nothing)
        self.assertEqual([peer.wire.aborted for peer in peers], [False] * 3)
        self.door.revoke(user_id="usr_1")
        settle(self.clock)
        self.assertEqual([peer.wire.aborted for peer in peers], [True, True, False])
        self.assertEqual(len(self.rooms.tasks.names()), 1)
        peers[2].leave()
        settle(self.clock)
        self.assertEqual(len(self.door._under_way), 0)

    def test_limits(self) -> None:
        """Four of a server at once; who leaves makes room."""
        self.run_game()
        self.say(b"x" * 3_000_000, after=0.1)
        target = "/api/v1/servers/srv_1/console/download"
        peers = []
        for _ in range(4):
            peer = OnePiecePeer(self.site)
            peer.ask("GET", target, None, Authorization="Bearer good")
            peers.append(peer)
        settle(self.clock)
        self.assertEqual(self.get("download").status, 429)
        peers[0].leave()
        settle(self.clock)
        self.assertEqual(self.get("download").status, 200)
        self.now(self.rooms.tasks.cancel_all())  # the daemon stops: an answer that is not whole does not look so
        self.assertEqual([peer.wire.aborted for peer in peers], [False, True, True, True])

    def test_a_recording(self) -> None:
        """asciicast v2: true times, sizes as they were, marks where runs began and ended."""
        self.run_game()
        self.say("one\r\n", after=5)
        self.console.resize(PtySize(100, 30))
        self.say("two\r\n", after=0.03)
        self.say("three\r\n", after=2.5)
        self.now(self.rooms.consoles.stop())
        self.boot()
        self.now(self.console.attach(self.game_again()))
        self.say("four\r\n")
        got = self.get("download?format=asciinema")
        self.assertEqual(got.headers["content-type"], "application/x-asciicast")
        self.assertIn('.cast"', got.headers["content-disposition"])
        header, *events = [json.loads(line) for line in got.body.splitlines()]
        self.assertEqual(header, {"version": 2, "width": 80, "height": 24, "timestamp": int(EPOCH), "title": "srv_1"})
        self.assertEqual([(round(event[0], 2), *event[1:]) for event in events if event[1] != "m"], [
            (0.0, "o", "one\r\n"), (0.0, "r", "100x30"), (5.0, "o", "two\r\nthree\r\n"), (7.53, "o", "four\r\n"),
        ])  # fmt: skip
        self.assertEqual([event[2] for event in events if event[1] == "m"], ["started", "started"])
        last = self.get("download?format=asciinema&run=last").body.splitlines()
        self.assertEqual((json.loads(last[0])["width"], json.loads(last[-1])[2]), (100, "four\r\n"))
        self.assertEqual(self.get("download?run=last").body, b"four\n")

    def game_again(self) -> str:
        return "game_1"

    def test_what_is_lost_is_told(self) -> None:
        """An explicit word where bytes are missing, in text and in a recording."""
        self.run_game()
        for number in range(300):
            self.say(f"{number:06d} line\n" * 1000, after=0.1)
        for segment in sorted((self.folder / "srv_1").glob("*.log"))[1:2]:
            segment.write_bytes(b"")
        text = self.get("download").body.decode()
        self.assertRegex(text, r"\n\[\d+ bytes are missing here: \d+ to \d+\]\n")
        self.assertTrue(text.startswith("000000 line\n") and text.endswith("000299 line\n"))
        cast = self.get("download?format=asciinema").body.splitlines()
        self.assertEqual(len([line for line in cast if b'"m"' in line and b"bytes are missing" in line]), 1)


class TimeTests(PastCase):
    """When bytes came: sparse, bounded, over restarts."""

    config = ConsoleConfig(publish_logs=False)

    def test_slow_output_is_exact(self) -> None:
        """Each piece that comes 100 ms or more after the last has its own time, also after a restart."""
        self.run_game()
        for _ in range(50):
            self.say("tick\n", after=0.3)
        self.now(self.rooms.consoles.stop())
        self.boot()
        times = self.now(self.console._scrollback.times(0, 250))
        self.assertEqual([(at, round(when - EPOCH, 2)) for at, when in times],
                         [(5 * n, round(0.3 * n, 2)) for n in range(50)])  # fmt: skip
        self.assertEqual(self.now(self.console._scrollback.times(12, 21)), times[2:5])

    def test_a_flood_costs_ten_marks_a_second(self) -> None:
        """However many pieces there are."""
        self.run_game()
        for _ in range(2000):
            self.say(b"x" * 100, after=0.001)
        times = self.now(self.console._scrollback.times(0, 200_000))
        self.assertTrue(18 <= len(times) <= 21, len(times))

    def test_bounded(self) -> None:
        """Marks beside a segment are thinned out when they are too many: what is old is told less exactly."""
        segments = self.console._segments
        for start in range(0, 3 * MARKS_MOST, MARKS_MOST):
            marks = [(n, EPOCH + n) for n in range(start, start + MARKS_MOST)]
            segments.write(start, [b"x" * MARKS_MOST], marks)
        found = segments.times(0, 3 * MARKS_MOST)
        self.assertTrue(MARKS_MOST / 2 <= len(found) <= MARKS_MOST, len(found))
        self.assertEqual(found[0], (0, EPOCH))
        self.assertTrue(all(at == EPOCH + offset for offset, at in found))

    def test_damaged(self) -> None:
        """K16: a torn or foreign file of times costs times, nothing else."""
        self.run_game()
        self.say("one\n", after=1)
        self.say("two\n", after=1)
        (path,) = (self.folder / "srv_1").glob("*.times")
        path.write_bytes(path.read_bytes() + b"torn")
        self.say("three\n", after=1)
        self.assertEqual([match["timestamp"] for match in self.get("search?q=t").json["matches"]],
                         [EPOCH + 2, EPOCH + 1])  # fmt: skip
        path.write_bytes(b"\xff" * 1000)
        self.assertEqual(self.matches("q=one"), [(0, "one")])
        path.unlink()
        path.mkdir()
        self.say("four\n", after=1)
        self.assertEqual(self.matches("q=four"), [(14, "four")])
