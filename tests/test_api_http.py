"""The HTTP connection itself: deadlines, caps, and requests that are none (SECURITY H01, H04)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from stellarstack.api.http import DaemonSite, HttpListener
from stellarstack.api.http_answers import Answer, Endpoint, Folder
from stellarstack.api.http_channel import HttpLimits
from stellarstack.errors import ConfigError
from stellarstack.tasks import Tasks
from tests.api_wire import Peer, pass_time
from tests.examples import examples

LIMITS = HttpLimits(body=1000, headers=20, waiting=5)
GOOD = b"GET /quick HTTP/1.1\r\nHost: n\r\n\r\n"


class Broken(Resource):
    """Fails at once."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        raise ValueError("a secret")


class Later(Resource):
    """Is answered when the test says so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


@implementer(IOpenSSLServerConnectionCreator)
class Creator:
    """Stands where a TLS context does."""

    def serverConnectionForTLS(self, tlsProtocol: Any) -> Any:
        raise NotImplementedError


class HttpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.later = Later()
        tasks = Tasks()

        async def quick(request: Any) -> Answer:
            return Answer(200, b"quick")

        async def echo(request: Any) -> Answer:
            return Answer(200, request.content.read(), "text/plain")

        root: Any = Folder({
            "quick": Endpoint({"GET": quick}, clock=self.clock, tasks=tasks),
            "echo": Endpoint({"POST": echo}, clock=self.clock, tasks=tasks),
            "later": self.later,
            "broken": Broken(),
        })  # fmt: skip
        self.site = DaemonSite(root, reactor=self.clock, limits=LIMITS)

    def tearDown(self) -> None:
        self.site.room.clear()
        pass_time(self.clock, 60)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def peer(self, raw: bytes = b"") -> Peer:
        found = Peer(self.site)
        if raw:
            found.send(raw)
        return found

    def refused(self, raw: bytes, status: int = 400) -> Peer:
        """One refusal is the only answer, and the connection ends."""
        peer = self.peer(raw)
        self.assertEqual(peer.answer.status, status, raw)
        self.assertIn("error", peer.answer.json)
        self.assertEqual(peer.answer.headers["connection"], "close")
        self.clock.advance(LIMITS.linger)
        self.assertTrue(peer.wire.closed)
        return peer


class Deadlines(HttpCase):
    """H04: nobody holds a connection by being slow."""

    def test_h04_slow_headers(self) -> None:
        """H04: headers at one byte a second are cut off within 15 s, with a 408."""
        peer = self.peer()
        sent = 0
        for byte in b"GET /quick HTTP/1.1\r\nHost: n\r\nX-Padding: " + b"x" * 100:
            if peer.wire.closed:
                break
            peer.send(bytes([byte]))
            sent += 1
            self.clock.advance(1)
        self.assertLessEqual(sent, 15)
        self.assertEqual(peer.answer.status, 408)

    def test_h04_slow_body(self) -> None:
        """H04: a body at one byte a second is cut off too."""
        peer = self.peer(b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 500\r\n\r\n")
        for _ in range(40):
            peer.send(b"x")
            self.clock.advance(1)
        self.assertTrue(peer.wire.closed)
        self.assertEqual(peer.answer.status, 408)

    def test_h04_silence(self) -> None:
        """H04: a connection that sends nothing ends, at its start and between requests."""
        silent, between = self.peer(), self.peer(GOOD)
        self.clock.advance(0)
        pass_time(self.clock, 15)
        self.assertTrue(silent.wire.closed)
        self.assertTrue(between.wire.closed)
        self.assertEqual(silent.raw, b"")

    def test_h04_slow_second_request(self) -> None:
        """H04: the deadline of the head begins anew with each request, also where it came with the one before."""
        peer = self.peer(GOOD + b"GET /quick HTTP/1.1\r\nHost:")
        for _ in range(12):
            peer.send(b" ")
            self.clock.advance(1)
        self.assertTrue(peer.wire.closed)
        self.assertEqual([got.status for got in peer.answers()], [200, 408])

    def test_kept_alive(self) -> None:
        """A peer that asks now and then keeps its connection."""
        peer = self.peer()
        for _ in range(20):
            peer.send(GOOD)
            pass_time(self.clock, 9)
        self.assertEqual([got.status for got in peer.answers()], [200] * 20)
        self.assertFalse(peer.wire.closed)

    def test_long_answers(self) -> None:
        """An answer may take as long as it takes: no deadline of a request counts for it."""
        peer = self.peer(b"GET /later HTTP/1.1\r\nHost: n\r\n\r\n")
        pass_time(self.clock, 600, 10)
        self.assertFalse(peer.wire.closed)
        self.later.requests[0].write(b"at last")
        self.later.requests[0].finish()
        self.assertEqual(peer.answer.body, b"at last")

    def test_answers_that_nobody_takes(self) -> None:
        """A peer that does not take its last answer is dropped."""
        for raw in (GOOD, GOOD.replace(b"Host: n", b"Host: n\r\nConnection: close"), b"nonsense\r\n\r\n"):
            peer = Peer(self.site)
            peer.wire.stuck = True
            peer.send(raw)
            pass_time(self.clock, 35)
            self.assertTrue(peer.wire.aborted)

    def test_h04_many_idle(self) -> None:
        """H04: beyond its number the connection that waits longest gives way; one under way does not."""
        busy = self.peer(b"GET /later HTTP/1.1\r\nHost: n\r\n\r\n")
        peers = [self.peer() for _ in range(LIMITS.waiting + 2)]
        self.assertEqual([peer.wire.closed for peer in peers], [True, True] + [False] * LIMITS.waiting)
        self.assertFalse(busy.wire.closed)
        self.assertEqual(self.peer(GOOD).answer.status, 200)
        busy.leave()

    def test_those_who_ask_wait_least(self) -> None:
        """Whoever has just been answered counts as the newest."""
        first = self.peer()
        others = [self.peer() for _ in range(LIMITS.waiting - 1)]
        first.send(GOOD)
        self.peer()
        self.assertFalse(first.wire.closed)
        self.assertTrue(others[0].wire.closed)


class Sizes(HttpCase):
    """H04: nobody makes us hold more than the caps."""

    def test_body_to_the_cap(self) -> None:
        """A body of exactly the cap is read, plain or in chunks."""
        body = b"x" * LIMITS.body
        peer = self.peer(b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual(peer.answer.body, body)
        chunks = b"".join(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(10)) + b"0\r\n\r\n"
        peer = self.peer(b"POST /echo HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        self.assertEqual(peer.answer.body, body)

    def test_h04_body_over_the_cap(self) -> None:
        """H04: a larger body is refused with 413 by its announced length, before it is sent."""
        peer = self.refused(b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 1001\r\n\r\n", 413)
        self.assertEqual(peer.answer.json["error"]["code"], "too_large")
        expecting = b"POST /echo HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n"
        self.refused(expecting, 413)

    def test_h04_chunks_over_the_cap(self) -> None:
        """H04: in chunks it is refused as soon as the cap is passed, and what follows is read away unseen."""
        peer = self.peer(b"POST /echo HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            peer.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        peer.send(b"0\r\n\r\n" + GOOD)
        self.assertEqual(peer.answer.status, 413)
        self.clock.advance(LIMITS.linger)
        self.assertTrue(peer.wire.closed)

    def test_h04_heads(self) -> None:
        """H04: a head with too long a line, too many bytes or too many headers is refused."""
        self.refused(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: n\r\n\r\n", 431)
        self.refused(b"GET /quick HTTP/1.1\r\nHost: n\r\nA: " + b"x" * 20_000, 431)
        self.refused(b"GET /quick HTTP/1.1\r\nHost: n\r\n" + b"A: %s\r\n" % (b"x" * 5000) * 4 + b"\r\n")
        self.refused(b"GET /quick HTTP/1.1\r\nHost: n\r\n" + b"A: b\r\n" * 21 + b"\r\n")


class Smuggling(HttpCase):
    """H01: a request means the same to everybody, or nothing."""

    def test_h01_lengths(self) -> None:
        """H01: two lengths, a length and chunks, or a length that is no plain number are refused; nothing runs."""
        smuggled = b"GET /quick HTTP/1.1\r\nHost: n\r\n\r\n"
        for headers in (
            b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5, 5",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 0x5", b"Content-Length: 5_0",
            b"Content-Length:",
            b"Content-Length: \xc2\xb2", b"Content-Length: " + b"9" * 5000, b"Content-Length: 5 5",
            b"Content-Length : 5",
            b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding : chunked",
        ):  # fmt: skip
            for end in (b"\r\nX: y\r\n\r\n", b"\r\n\r\n"):
                self.refused(b"POST /echo HTTP/1.1\r\nHost: n\r\n" + headers + end + b"0\r\n\r\n" + smuggled)

    def test_h01_lines(self) -> None:
        """H01: a bare LF or CR, a NUL, a header without a name, or no HTTP at all is refused."""
        for raw in (
            b"GET /quick HTTP/1.1\nHost: n\n\n" + GOOD, b"GET /quick HTTP/1.1\r\nHost: n\nX: y\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"GET /quick HTTP/1.1\r\nHost: n\r\nX: a\x00b\r\n\r\n",
            b"GET /quick HTTP/1.1\r\nHost: n\r\nX: a\rb\r\n\r\n",
            b"GET /quick HTTP/1.1\r\n: x\r\n\r\n", b"GET /quick HTTP/1.1\r\nHost: n\r\nno colon\r\n\r\n",
            b"GET /quick\r\n\r\n",
            b"GET /quick HTTP/1.1\r\nHost: n\r\nA B: c\r\n\r\n", b"GET  /quick HTTP/1.1\r\nHost: n\r\n\r\n",
            b"GET /quick FTP/1.1\r\nHost: n\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        ):  # fmt: skip
            self.refused(raw)

    def test_h01_chunks(self) -> None:
        """H01: a chunk whose length is no plain hexadecimal number is refused."""
        for chunk in (
            b"+1\r\nx\r\n",
            b"0x1\r\nx\r\n",
            b"-1\r\n",
            b"\r\n",
            b"1_0\r\n",
            b" 1\r\nx\r\n",
            b"g\r\n",
            b"1\r\nxyz\r\n",
        ):
            raw = b"POST /echo HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n" + GOOD
            self.refused(raw)

    def test_h01_hosts(self) -> None:
        """H01: HTTP/1.1 needs one Host and an address from `/` on."""
        for raw in (
            b"GET /quick HTTP/1.1\r\n\r\n", b"GET /quick HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET http://node/quick HTTP/1.1\r\nHost: n\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: n\r\n\r\n",
            b"CONNECT node:80 HTTP/1.1\r\nHost: n\r\n\r\n",
        ):  # fmt: skip
            self.assertEqual(self.peer(raw).answer.status, 400, raw)
        self.assertEqual(self.peer(b"GET /quick HTTP/1.0\r\n\r\n").answer.status, 200)

    def test_h01_pipelining(self) -> None:
        """H01: requests sent ahead are answered in their order, however long the first takes."""
        peer = self.peer(b"GET /later HTTP/1.1\r\nHost: n\r\n\r\n" + GOOD + b"GET /nothing HTTP/1.1\r\nHost: n\r\n\r\n")
        self.assertEqual(peer.raw, b"")
        self.later.requests[0].write(b"slow")
        self.later.requests[0].finish()
        self.clock.pump([0, 0, 0])
        self.assertEqual([(got.status, got.body[:5]) for got in peer.answers()][:2], [(200, b"slow"), (200, b"quick")])
        self.assertEqual(peer.answers()[2].status, 404)

    def test_h01_a_bad_one_behind_good_ones(self) -> None:
        """H01: the good ones before it are answered, then the bad one, and nothing after it."""
        peer = self.peer(GOOD + b"GET /quick HTTP/1.1\r\nHost: n\r\nContent-Length: x\r\n\r\n" + GOOD)
        self.clock.pump([0, 0, 0])
        self.assertEqual([got.status for got in peer.answers()], [200, 400])

    def test_h01_behind_an_upgrade(self) -> None:
        """H01: what follows a request that asks for another protocol is never read as HTTP: one answer, the end."""
        for ask in (b"websocket", b"h2c"):
            for where in (b"quick", b"later", b"nothing"):
                peer = self.peer(b"GET /%s HTTP/1.1\r\nHost: n\r\nUpgrade: %s\r\n\r\n" % (where, ask) + GOOD)
                peer.send(GOOD)
                if where == b"later":
                    self.later.requests.pop().finish()
                peer.send(GOOD)
                self.assertEqual(len(peer.answers()), 1)
                self.assertEqual(peer.answers()[0].headers["connection"], "close")
                self.clock.advance(LIMITS.linger)
                self.assertTrue(peer.wire.closed)

    def test_bodies_that_many_small_pieces_make(self) -> None:
        """A request means the same in whatever pieces it comes."""
        raw = b"POST /echo HTTP/1.1\r\nHost: n\r\nContent-Length: 4\r\n\r\nbody" + GOOD
        peer = self.peer()
        for byte in raw:
            peer.send(bytes([byte]))
        self.clock.pump([0, 0])
        self.assertEqual([got.body for got in peer.answers()], [b"body", b"quick"])

    def test_h04_a_reader_of_nothing(self) -> None:
        """H04: requests sent ahead wait for later turns, and as long as their sender reads nothing."""
        peer = self.peer(GOOD * 50)
        self.assertEqual(len(peer.answers()), 1)
        peer.stop_reading()
        self.clock.pump([0] * 10)
        self.assertEqual(len(peer.answers()), 1)
        peer.read_again()
        self.clock.pump([0] * 60)
        self.assertEqual(len(peer.answers()), 50)

    @examples(60)
    @given(
        st.lists(
            st.binary(max_size=80) | st.sampled_from([GOOD, b"\r\n", b"GET / HTTP/1.1\r\n", b"Host: n\r\n", b"0\r\n"])
        )
    )
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """H01: whatever is sent, nothing is raised, and whatever is answered is an answer."""
        peer = Peer(self.site)
        for piece in pieces:
            peer.send(piece)
        self.assertTrue(all(got.status in (200, 400, 404, 405) for got in peer.answers()))
        peer.leave()


class Faults(HttpCase):
    """What goes wrong on our side."""

    def test_a_bug(self) -> None:
        """A resource that fails is a 500 in JSON without its reason, and is logged."""
        got = self.peer(b"GET /broken HTTP/1.1\r\nHost: n\r\n\r\n").answer
        self.assertEqual((got.status, got.json["error"]["code"]), (500, "internal"))
        self.assertNotIn(b"secret", got.body)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_nothing_is_logged_of_addresses(self) -> None:
        """P07: no access log is kept: a query may hold what belongs in none."""
        logged: Any = []
        keep: Any = logged.append
        globalLogPublisher.addObserver(keep)
        self.addCleanup(globalLogPublisher.removeObserver, keep)
        self.site.doStart()
        self.peer(b"GET /quick?token=canary HTTP/1.1\r\nHost: n\r\n\r\n")
        self.peer(b"GET /quick?token=canary")
        pass_time(self.clock, 20)
        self.site.doStop()
        self.assertNotIn("canary", repr(logged))


class Listening(SynchronousTestCase):
    """The port."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.site = DaemonSite(Folder({}), reactor=self.reactor)

    def listener(self, reactor: Any = None, **how: Any) -> HttpListener:
        return HttpListener(
            site=self.site, reactor=reactor or self.reactor, **{"host": "127.0.0.1", "port": 8080, **how}
        )

    def test_plain(self) -> None:
        """It listens on host and port of `[server]` and tells the port that it got."""
        listener = self.listener()
        self.assertIsInstance(self.successResultOf(Deferred.fromCoroutine(listener.start())), int)
        ((port, factory, _, interface),) = self.reactor.tcpServers
        self.assertEqual((port, factory, interface), (8080, self.site, "127.0.0.1"))
        self.successResultOf(Deferred.fromCoroutine(listener.stop()))
        self.successResultOf(Deferred.fromCoroutine(listener.stop()))

    def test_accepted(self) -> None:
        """Each new connection's transport is shown to whoever looks after its pace."""
        shown: list[object] = []
        self.site.accepted = shown.append
        transport = StringTransport()
        self.site.buildProtocol(None).makeConnection(transport)
        self.assertEqual(shown, [transport])

    def test_tls(self) -> None:
        """With a context each connection is one of TLS, and HTTP/2 is not offered."""
        listener = self.listener(tls=Creator())
        self.successResultOf(Deferred.fromCoroutine(listener.start()))
        self.assertIsInstance(self.reactor.tcpServers[0][1], TLSMemoryBIOFactory)
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_taken_port(self) -> None:
        """A port that somebody holds is one line that names host and port."""

        class Taken(MemoryReactorClock):
            def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
                raise CannotListenError(interface, port, OSError(98, "Address already in use"))

        failure = self.failureResultOf(Deferred.fromCoroutine(self.listener(Taken()).start()), ConfigError)
        self.assertEqual(
            str(failure.value), "[server] cannot listen on 127.0.0.1, port 8080: Address already in use"
        )  # fmt: skip

    def test_stop_ends_those_who_wait(self) -> None:
        """At the stop the connections between requests end."""
        peer = Peer(self.site)
        self.successResultOf(Deferred.fromCoroutine(self.listener().stop()))
        self.assertTrue(peer.wire.closed)
