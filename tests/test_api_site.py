"""The addresses on `[server]`: health, metrics, the API's description, and what is not there (PROTOCOL 9)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from stellarstack import __version__
from stellarstack.api.console_past import PastDoor
from stellarstack.api.health import NodeHealth
from stellarstack.api.http import DaemonSite
from stellarstack.api.http_query import TokenDoor
from stellarstack.api.site import make_site
from stellarstack.api.site_web import WebConsole
from stellarstack.config import Secret
from stellarstack.errors import DockerUnavailable, InvalidState, ServerNotFound, StellarError, Unauthorized
from stellarstack.tasks import Tasks
from tests.api_wire import Got, Peer
from tests.console_rooms import Directory, Tokens

TOKEN = "m" * 40
WEB = WebConsole()


class Console(Resource):
    """Stands where the WebSocket does."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        return b"console " + b"/".join(request.postpath)


class NoArchives:
    """A ConsoleArchives of a node without servers."""

    def archive(self, server_id: str) -> None:
        return None


class SiteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tasks = Tasks()
        self.state = "ONLINE"
        self.checks: Mapping[str, bool] = {"redis": True, "docker": True, "database": True, "disk": True}
        self.asked = 0
        self.fault: Exception | None = None
        self.slow: Deferred[None] | None = None
        self.site = self.make(Secret(TOKEN))

    def make(self, token: Secret | None) -> DaemonSite:
        return make_site(
            reactor=self.clock, tasks=self.tasks, health=self.health, metrics=self.metrics, metrics_token=token,
            console=Console(), web=WEB, past=self.past(),
        )  # fmt: skip

    def past(self) -> PastDoor:
        admission = TokenDoor(Tokens(self.clock.seconds), Directory())
        archives = NoArchives()
        return PastDoor(
            archives=archives, admission=admission, clock=self.clock, tasks=self.tasks, now=self.clock.seconds
        )  # fmt: skip

    async def health(self) -> NodeHealth:
        self.asked += 1
        waiting, self.slow = self.slow, None
        if waiting is not None:
            await waiting
        if self.fault is not None:
            raise self.fault
        return NodeHealth("node_a", self.state, 12.34567, self.checks)

    async def metrics(self) -> tuple[str, str]:
        return "up 1\n# EOF\n", "application/openmetrics-text; version=1.0.0; charset=utf-8"

    def get(self, target: str, method: str = "GET", address: str = "127.0.0.1", **headers: str) -> Got:
        peer = Peer(self.site, address)
        peer.ask(method, target, None, **headers)
        return peer.answer

    def judge_error(self, got: Got, status: int, code: str) -> None:
        self.assertEqual((got.status, got.json["error"]["code"]), (status, code), got.body)
        self.assertEqual(set(got.json), {"error"})
        self.assertEqual(set(got.json["error"]), {"code", "message"})
        self.assertEqual(got.headers["content-type"], "application/json")


class Health(SiteCase):
    """`GET /health`."""

    def test_the_whole_answer(self) -> None:
        """It is PROTOCOL 9's object, key for key."""
        got = self.get("/health")
        self.assertEqual(got.status, 200)
        self.assertEqual(
            got.json,
            {
                "status": "healthy", "nodeId": "node_a", "state": "ONLINE", "version": __version__, "uptime": 12.346,
                "checks": {"redis": "ok", "docker": "ok", "database": "ok", "disk": "ok"},
            },
        )  # fmt: skip

    def test_status_codes(self) -> None:
        """200 where the state is ONLINE or DRAINING, else 503."""
        for state in ("ONLINE", "DRAINING", "OFFLINE", "STARTING", "UNHEALTHY", "ERROR"):
            self.state = state
            self.clock.advance(2)
            got = self.get("/health")
            self.assertEqual(got.status, 200 if state in ("ONLINE", "DRAINING") else 503)
            self.assertEqual(got.json["status"], "healthy" if got.status == 200 else "unhealthy")

    def test_failed_checks(self) -> None:
        """A failed check is named, and the node is then degraded but up."""
        self.checks = {**self.checks, "disk": False}
        got = self.get("/health")
        self.assertEqual((got.status, got.json["status"], got.json["checks"]["disk"]), (200, "degraded", "failed"))

    def test_asked_once_a_second(self) -> None:
        """Whoever asks without a token cannot have the checks run more often than once a second."""
        for _ in range(50):
            self.get("/health")
        self.assertEqual(self.asked, 1)
        self.clock.advance(1)
        self.get("/health")
        self.assertEqual(self.asked, 2)

    def test_asked_side_by_side(self) -> None:
        """Those who ask while the checks run wait for the same answer."""
        slow = self.slow = Deferred()
        peers = [Peer(self.site) for _ in range(5)]
        for peer in peers:
            peer.ask("GET", "/health")
        slow.callback(None)
        self.assertEqual([peer.answer.status for peer in peers], [200] * 5)
        self.assertEqual(self.asked, 1)

    def test_who_leaves_harms_nobody(self) -> None:
        """A peer that leaves while the checks run is forgotten; the next is answered."""
        self.slow = Deferred()
        gone, stays = Peer(self.site), Peer(self.site)
        gone.ask("GET", "/health")
        stays.ask("GET", "/health")
        gone.leave()
        self.assertEqual(stays.answer.status, 200)
        self.assertEqual(self.tasks.names(), [])

    def test_checks_that_hang(self) -> None:
        """Checks that never end are answered with an error in time."""
        self.slow = Deferred()
        peer = Peer(self.site)
        peer.ask("GET", "/health")
        self.clock.advance(31)
        self.judge_error(peer.answer, 504, "timeout")

    def test_faults(self) -> None:
        """An expected error has its code; a bug is a 500 that tells nothing of itself, and is logged."""
        for fault, status, code in (
            (DockerUnavailable("gone"), 503, "docker_unavailable"), (ServerNotFound("x"), 404, "server_not_found"),
            (InvalidState("x"), 409, "invalid_state"), (StellarError("x"), 500, "internal"),
        ):  # fmt: skip
            self.fault = fault
            self.judge_error(self.get("/health"), status, code)
        self.fault = Unauthorized("who are you")
        self.assertEqual(self.get("/health").headers["www-authenticate"], "Bearer")
        self.fault = ValueError("a secret")
        got = self.get("/health")
        self.judge_error(got, 500, "internal")
        self.assertNotIn(b"secret", got.body)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class Metrics(SiteCase):
    """`GET /metrics`."""

    def test_from_this_machine(self) -> None:
        """A loopback peer needs no token, by whichever of its addresses."""
        for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            got = self.get("/metrics", address=address)
            self.assertEqual((got.status, got.body), (200, b"up 1\n# EOF\n"), address)
            self.assertEqual(got.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")

    def test_from_elsewhere(self) -> None:
        """Others are refused without the token."""
        for address in ("192.0.2.1", "10.0.0.1", "::", "0.0.0.0", "::ffff:10.0.0.1", "fe80::1", "not an address", ""):
            self.judge_error(self.get("/metrics", address=address), 403, "forbidden")

    def test_through_a_proxy(self) -> None:
        """A proxy on this machine speaks for others, so its word counts for nothing."""
        for name in ("Forwarded", "X_Forwarded_For", "x_forwarded_for"):
            for value in ("127.0.0.1", "for=192.0.2.1", ""):
                self.judge_error(self.get("/metrics", **{name: value}), 403, "forbidden")

    def test_the_token(self) -> None:
        """Its bearer may ask from anywhere and through proxies; whoever has another may not."""
        self.assertEqual(self.get("/metrics", address="192.0.2.1", Authorization=f"Bearer {TOKEN}").status, 200)
        self.assertEqual(
            self.get("/metrics", X_Forwarded_For="192.0.2.1", Authorization=f"bearer  {TOKEN}").status, 200
        )
        for bad in (TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", "Bearer ", ""):
            self.judge_error(self.get("/metrics", address="192.0.2.1", Authorization=bad), 403, "forbidden")

    def test_no_token_configured(self) -> None:
        """Without a token in daemon.toml nobody elsewhere has one, an empty one least of all."""
        self.site = self.make(None)
        for value in ("Bearer ", "Bearer None", ""):
            self.judge_error(self.get("/metrics", address="192.0.2.1", Authorization=value), 403, "forbidden")
        self.assertEqual(self.get("/metrics").status, 200)


class Addresses(SiteCase):
    """What is where."""

    def test_the_console(self) -> None:
        """`/console` and what is below it belongs to the console's own resource."""
        self.assertEqual(self.get("/console").body, b"console ")
        self.assertEqual(self.get("/console/srv_1?since=5").body, b"console srv_1")

    def test_the_description(self) -> None:
        """The API's description is whole: each reference leads somewhere, each operation has a name of its own."""
        got = self.get("/api/v1/openapi.json")
        document = got.json
        self.assertEqual((got.status, document["openapi"], document["info"]["version"]), (200, "3.1.0", __version__))
        for reference in re.findall(r'"#/([^"]+)"', got.body.decode()):
            place = document
            for step in reference.split("/"):
                place = place[step]
        names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(names)

    def test_the_description_tells_the_truth(self) -> None:
        """Every address it names is there."""
        for path in self.get("/api/v1/openapi.json").json["paths"]:
            self.assertNotEqual(self.get(path.replace("{serverId}", "s")).status, 404, path)

    def test_unknown_addresses(self) -> None:
        """H02: what is not there is 404 in JSON, and nothing of the request comes back."""
        for target in (
            "/x", "/health/", "/health/x", "/metrics/../x", "/api", "/api/", "/api/v1", "/api/v1/", "/api/v2",
            "/api/v1/x", "/api/v1/openapi.json/",
            "//health", "/%00", "/<script>alert(1)</script>", "/health%2f", "/robots.txt",
        ):  # fmt: skip
            got = self.get(target, Host2="x")
            self.judge_error(got, 404, "not_found")
            self.assertNotIn(b"script", got.body)

    def test_other_methods(self) -> None:
        """A method that is not offered is 405 with those that are; also one that nobody knows."""
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"):
            got = self.get("/health", method)
            self.judge_error(got, 405, "method_not_allowed")
            self.assertEqual(got.headers["allow"], "GET")

    def test_head(self) -> None:
        """HEAD is answered as GET is, without the body."""
        peer = Peer(self.site)
        peer.ask("HEAD", "/health")
        (got,) = peer.answers(to_head=True)
        self.assertEqual((got.status, got.headers["content-length"]), (200, str(len(self.get("/health").body))))
        self.assertTrue(peer.raw.endswith(b"\r\n\r\n"))

    def test_h02_hosts(self) -> None:
        """H02: the Host header, whatever is in it, appears nowhere in an answer."""
        for target in ("/", "/health", "/nothing", "/api"):
            peer = Peer(self.site)
            peer.send(f"GET {target} HTTP/1.1\r\nHost: evil.example<b>\r\n\r\n".encode())
            self.assertNotIn(b"evil", peer.raw)

    def test_headers_of_every_answer(self) -> None:
        """Each answer forbids sniffing, framing and caching, and names no software."""
        answers = [self.get(target) for target in ("/", "/health", "/nothing", "/console")]
        self.fault = ValueError()
        self.clock.advance(2)
        answers.append(self.get("/health"))
        self.flushLoggedErrors(ValueError)
        peer = Peer(self.site)
        peer.send(b"nonsense\r\n\r\n")
        answers.append(peer.answer)
        for got in answers:
            self.assertEqual(got.headers["x-content-type-options"], "nosniff")
            self.assertIn("default-src 'none'", got.headers["content-security-policy"])
            self.assertIn("frame-ancestors 'none'", got.headers["content-security-policy"])
            self.assertEqual(got.headers["cache-control"], "no-store" if got is not answers[0] else "no-cache")
            self.assertNotIn("server", got.headers)
            self.assertNotIn("twisted", json.dumps(got.headers).lower())

    def test_h03_modules(self) -> None:
        """H03: the doors bring in neither Twisted's DNS nor its mail nor its IRC."""
        code = "import sys, stellarstack.api.site, stellarstack.api.control; print(sorted(sys.modules))"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        ).stdout
        for module in ("twisted.names", "twisted.mail", "twisted.words", "twisted.internet.reactor"):
            self.assertNotIn(f"'{module}'", loaded)
