"""Logging in, step by step, against a scripted Redis; real sockets are in tests/integration/test_redis_login.py."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.redis_url import parse_redis_url
from stellarstack.errors import RedisRefused, RedisUnavailable, StellarError, TimedOut
from stellarstack.redis.dial import Login, RedisDialer, greet
from tests.redis_fakes import ScriptedRedis, settle

HELLO = [b"server", b"redis", b"version", b"7.0.15", b"proto", 2, b"role", b"master"]
WRONGPASS = Exception("WRONGPASS invalid username-password pair or user is disabled.")
NO_PASSWORD = Exception("ERR AUTH <password> called without any password configured for the default user.")
NODE_LOGIN = Login("node_a", "tok")


class GreetTests(SynchronousTestCase):
    """The rules of PROTOCOL 2."""

    def greet(self, url: str = "redis://h", login: Login = NODE_LOGIN, **replies: Any) -> Any:
        clock = Clock()
        self.redis = ScriptedRedis(clock, **{"HELLO": HELLO, **replies})
        done = Deferred.fromCoroutine(greet(self.redis.wire, parse_redis_url(url), login))
        settle(clock)
        return done

    def asked(self) -> list[bytes]:
        return [b" ".join(command) for command in self.redis.asked]

    def refused(self, done: Any, kind: type[StellarError] = RedisRefused) -> str:
        return str(self.failureResultOf(done, kind).value)

    def test_url_credentials(self) -> None:
        """User and password of the URL, or the password alone, are offered as they are and nothing else is."""
        for url, auth in (("redis://u:pw@h", b"AUTH u pw"), ("redis://:pw@h", b"AUTH pw")):
            self.successResultOf(self.greet(url))
            self.assertEqual(self.asked(), [auth, b"HELLO"])

    def test_url_credentials_refused(self) -> None:
        """Where they are refused, or Redis has no password, that is a refusal; the password is not shown."""
        for reply in (WRONGPASS, NO_PASSWORD):
            text = self.refused(self.greet("redis://u:hunter2@h", AUTH=reply))
            self.assertNotIn("hunter2", text)

    def test_node_credentials(self) -> None:
        """Node id and token first, the token alone on WRONGPASS, none where Redis has no password."""
        self.successResultOf(self.greet())
        self.assertEqual(self.asked(), [b"AUTH node_a tok", b"HELLO"])
        self.successResultOf(self.greet(AUTH=lambda command: "OK" if len(command) == 2 else WRONGPASS))
        self.assertEqual(self.asked(), [b"AUTH node_a tok", b"AUTH tok", b"HELLO"])
        self.successResultOf(self.greet(AUTH=lambda command: NO_PASSWORD if len(command) == 2 else WRONGPASS))
        self.assertEqual(self.asked(), [b"AUTH node_a tok", b"AUTH tok", b"HELLO"])
        self.successResultOf(self.greet(login=Login(None, "tok")))
        self.assertEqual(self.asked(), [b"AUTH tok", b"HELLO"])
        self.successResultOf(self.greet(login=Login()))
        self.assertEqual(self.asked(), [b"HELLO"])

    def test_node_credentials_refused(self) -> None:
        """Where neither form is taken it is a refusal, that does not show the token."""
        text = self.refused(self.greet(login=Login("node_a", "hunter2"), AUTH=WRONGPASS))
        self.assertNotIn("hunter2", text)
        self.assertFalse(RedisRefused.retry)

    def test_trouble_is_no_refusal(self) -> None:
        """Another error at the login is trouble that may pass."""
        self.refused(self.greet(AUTH=Exception("ERR busy")), RedisUnavailable)
        self.assertNotIsInstance(self.failureResultOf(self.greet(AUTH=Exception("ERR busy"))).value, RedisRefused)

    def test_version(self) -> None:
        """Redis 6.2 and newer and Valkey are good; older ones are refused by name, those before HELLO and ACLs too."""
        for server, version in (("redis", "6.2.0"), ("redis", "10.1.0"), ("valkey", "7.2.4"), ("valkey", "9.1.2")):
            facts = [b"server", server.encode(), b"version", version.encode(), b"role", b"master"]
            self.successResultOf(self.greet(HELLO=facts))
        for old in (b"6.0.16", b"5.0.7", b""):
            text = self.refused(self.greet(HELLO=[b"server", b"redis", b"version", old, b"role", b"master"]))
            self.assertIn(f"Redis {old.decode()} is too old", text)
        text = self.refused(self.greet(HELLO=Exception("ERR unknown command `HELLO`")))
        self.assertIn("6.2 or newer", text)
        text = self.refused(self.greet(AUTH=Exception("ERR wrong number of arguments for 'auth' command")))
        self.assertIn("6.2 or newer", text)

    def test_hello_refused(self) -> None:
        """HELLO may be forbidden by an ACL; that it wants a login first is a refusal; other errors may pass."""
        self.successResultOf(self.greet(HELLO=Exception("NOPERM no hello")))
        self.assertIn("NOAUTH", self.refused(self.greet(HELLO=Exception("NOAUTH HELLO must be called"))))
        self.refused(self.greet(HELLO=Exception("ERR busy")), RedisUnavailable)

    def test_replica(self) -> None:
        """K10: a replica is no place to write events to."""
        facts = [b"version", b"7.0.0", b"role", b"replica"]
        self.assertIn("replica", self.refused(self.greet(HELLO=facts), RedisUnavailable))

    def test_database(self) -> None:
        """The database of the URL is selected last; 0 needs no asking."""
        self.successResultOf(self.greet("redis://h/4"))
        self.assertEqual(self.asked()[-1], b"SELECT 4")


class RedisDialerTests(SynchronousTestCase):
    """Which addresses are dialled, on a reactor in memory."""

    def dial(self, url: str, **how: Any) -> Any:
        self.reactor = MemoryReactorClock()
        dialer = RedisDialer(reactor=self.reactor, url=parse_redis_url(url), login=NODE_LOGIN, **how)
        return Deferred.fromCoroutine(dialer.dial())

    def test_unix(self) -> None:
        """A unix:// address is dialled as such; what refuses the connection is told in one line."""
        done = self.dial("unix:///run/x.sock")
        ((path, factory, *_),) = self.reactor.unixClients
        self.assertEqual(path, "/run/x.sock")
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError(111, "Connection refused")))
        text = str(self.failureResultOf(done, RedisUnavailable).value)
        self.assertIn("unix:///run/x.sock", text)
        self.assertIn("refused", text)

    def test_never_connects(self) -> None:
        """A connection that does not come about ends in time."""
        done = self.dial("unix:///run/x.sock")
        self.reactor.advance(10)
        self.failureResultOf(done, RedisUnavailable, TimedOut)

    def test_cancelled(self) -> None:
        """A cancelled dial stays a cancellation: the stop is not mistaken for a failure."""
        done = self.dial("unix:///run/x.sock")
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def test_tls_without_settings(self) -> None:
        """rediss:// without TLS settings is a clear error, never plain text."""
        self.assertIn("TLS", str(self.failureResultOf(self.dial("rediss://h"), RedisUnavailable).value))

    def test_r02_plain_sentinels_with_require_tls(self) -> None:
        """R02: an address beyond this machine is not spoken to in plain text where TLS is required."""
        done = self.dial("redis://10.0.0.1", require_tls=True)
        self.assertIn("require_tls", str(self.failureResultOf(done, RedisUnavailable).value))
        self.assertEqual(self.reactor.tcpClients, [])

    def test_host(self) -> None:
        """A host name is resolved and dialled on its port."""
        self.assertIsInstance(
            RedisDialer(reactor=MemoryReactorClock(), url=parse_redis_url("redis://h:1"), login=Login())._endpoint(),
            HostnameEndpoint,
        )
