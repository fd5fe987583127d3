"""Logging in to a real Redis: every rule of PROTOCOL 2 on every connection, TLS, and the fence of R01."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.trial.unittest import TestCase

from stellarstack.core.messages import commands_channel, commands_queue, events_log
from stellarstack.core.redis_acl import acl_rules, redis_acl
from stellarstack.core.redis_url import parse_redis_url
from stellarstack.errors import RedisRefused
from stellarstack.redis.dial import Login, RedisDialer
from tests.integration.redis_waiting import until
from tests.integration.test_redis_link import LinkCase
from tests.redis_certificates import Certificates
from tests.redis_fakes import NODE
from tests.redis_server import Ask, RedisServer, missing

clock: Any = reactor
TOKEN = "strk_node_secret"
FULL = "~* &* +@all"


class LoginCase(LinkCase):
    """Logs in all three connections of a link."""

    async def works(self, url: str | None = None, login: Login | None = None, **how: Any) -> None:
        """The link comes up and carries a command and an event."""
        await self.connected(url, login=login or Login(NODE, TOKEN), **how)
        self.store.add(1)
        self.publisher.wake()
        assert await self.publisher.drained(10)

    async def refused(self, url: str | None = None, login: Login | None = None, lines: int = 3) -> str:
        """So many lines of the link are refused and it never counts as connected; the text."""
        link = self.make(url, login=login or Login(NODE, TOKEN))
        link.start()
        await until(lambda: len([one for one in link._connections if one.error]) == lines, "the refusals")
        assert isinstance(link.error, RedisRefused), link.error
        assert not any(connected for connected, _ in self.changes)
        assert not link.error.retry
        assert TOKEN not in str(link.error)
        return str(link.error)

    def at(self, credentials: str) -> str:
        return f"redis://{credentials}@127.0.0.1:{self.redis.port}"


class OpenRedisTests(LoginCase):
    """A Redis without any password."""

    async def test_no_password_configured(self) -> None:
        """Node id and token are offered, Redis has no password, and the link works without."""
        await self.works()

    async def test_no_token(self) -> None:
        """Without a token nothing is offered at all."""
        await self.works(login=Login(NODE, None))

    async def test_password_of_the_url_must_hold(self) -> None:
        """A password in the URL that Redis does not know of is a refusal, not ignored."""
        assert "without any password" in await self.refused(self.at(":pw"))

    async def test_database_number(self) -> None:
        """The log is written to the database that the URL names."""
        await self.works(self.redis.url + "/3")
        ask = self.redis.ask()
        assert ask("EXISTS", events_log(NODE)) == 0
        ask("SELECT", 3)
        assert ask("EXISTS", events_log(NODE)) == 1

    async def test_refusal_is_mended(self) -> None:
        """After a refusal `retry` brings the link up as soon as the credentials are good."""
        ask = self.redis.ask()
        ask("CONFIG", "SET", "requirepass", "other")
        link = self.make()
        link.start()
        await until(lambda: isinstance(link.error, RedisRefused), "the refusal")
        ask("CONFIG", "SET", "requirepass", "")
        await until(lambda: all(one.error for one in link._connections), "all three")
        link.retry()
        await until(lambda: link.connected, "connecting")
        assert self.changes[-1] == (True, None)


class PasswordTests(LoginCase):
    """A Redis with requirepass, whose password is the node's token."""

    config = (f"requirepass {TOKEN}",)

    async def test_token_fallback(self) -> None:
        """Node id and token get WRONGPASS; the token alone is then let in."""
        await self.works()

    async def test_only_a_password(self) -> None:
        """Only a password in the URL: it alone is offered."""
        await self.works(self.at(f":{TOKEN}"), login=Login(NODE, "strk_node_other"))

    async def test_wrong_password_in_the_url(self) -> None:
        """A wrong password in the URL is a refusal, also where the node's token would do."""
        assert "WRONGPASS" in await self.refused(self.at(":wrong"))

    async def test_wrong_token(self) -> None:
        """Neither form of the token helps: a refusal."""
        assert "neither" in await self.refused(login=Login(NODE, "strk_node_other"))

    async def test_no_credentials(self) -> None:
        """Without any credentials Redis' NOAUTH is a refusal."""
        assert "NOAUTH" in await self.refused(login=Login(NODE, None))

    async def test_odd_characters(self) -> None:
        """A password with every awkward character passes through the URL unharmed."""
        self.redis.ask(TOKEN)("CONFIG", "SET", "requirepass", "p:@/?#% ü+")
        await self.works(self.at(":p%3A%40%2F%3F%23%25%20%C3%BC+"))


class AclTests(LoginCase):
    """A Redis with users."""

    config = (
        "user default off",
        f"user {NODE} on >{TOKEN} {FULL}",
        f"user panel on >pw {FULL}",
        f"user no_read on >pw {FULL} -xreadgroup",
        f"user no_add on >pw {FULL} -xadd",
        f"user no_hello on >pw {FULL} -hello",
    )

    async def test_node_id_and_token(self) -> None:
        """A user of the node's name is let in with the token."""
        await self.works()

    async def test_user_and_password(self) -> None:
        """User and password in the URL win over node id and token."""
        await self.works(self.at("panel:pw"), login=Login("node_unknown", "strk_node_unknown"))

    async def test_commands_that_are_not_allowed(self) -> None:
        """A user that may not read the queue, or not write the log, is refused, which names the command."""
        assert "xreadgroup" in await self.refused(self.at("no_read:pw"), lines=1)
        self.changes.clear()
        assert "xadd" in await self.refused(self.at("no_add:pw"), lines=1)

    async def test_hello_is_not_needed(self) -> None:
        """A user that may not say HELLO is let work: then nobody checks Redis' version."""
        await self.works(self.at("no_hello:pw"))


class FenceTests(LoginCase):
    """R01: the ACL that stellarctl prints."""

    def setUp(self) -> None:
        super().setUp()
        self.ask = self.redis.ask()
        self.ask("ACL", "SETUSER", "default", "off")
        self.ask("ACL", "SETUSER", NODE, *acl_rules(NODE, TOKEN))

    def as_node(self) -> Ask:
        return self.redis.ask(NODE, TOKEN)

    async def test_r01_everything_works_inside(self) -> None:
        """R01: with it a node reads both ways of its commands, and writes its log, its events and transient ones."""
        self.store.add(20, f"stellar:nodes:{NODE}:events", "stellar:servers:srv_1:status", "stellar:events:global")
        await self.works()
        assert self.publisher._transactions
        self.ask("PUBLISH", commands_channel(NODE), "one")
        await until(lambda: len(self.intake.received) == 1, "the published command")
        self.ask("XADD", commands_queue(NODE), "*", "command", "two")
        await until(lambda: self.intake.bodies == [b"one", b"two"], "the queued command")
        await until(lambda: self.ask("XLEN", commands_queue(NODE)) == 0, "its removal")
        answer = self.publisher.publish(f"stellar:nodes:{NODE}:heartbeat", b"{}")
        assert answer is not None
        assert await answer == 0
        assert self.log_length() == 21

    def log_length(self) -> int:
        length: int = self.ask("XLEN", events_log(NODE))
        return length

    async def test_r01_queue_deleted_behind_us(self) -> None:
        """R01: a deleted queue is made anew with these rights too."""
        await self.works()
        self.ask("DEL", commands_queue(NODE))
        self.ask("XADD", commands_queue(NODE), "*", "command", "later")
        await until(lambda: self.intake.bodies == [b"later"], "the command")

    def test_r01_nothing_outside(self) -> None:
        """R01: no scripts, nothing of another node, no forged commands, no tampering with the log, no CLIENT KILL."""
        other = "stellar:nodes:node_other"
        forbidden: Sequence[Sequence[str | int]] = [
            ("EVAL", "return 1", 0), ("FUNCTION", "LIST"), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("FLUSHALL",),
            ("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "PAUSE", 1), ("CLIENT", "LIST"), ("INFO",),
            ("SUBSCRIBE", f"{other}:commands"), ("SUBSCRIBE", f"stellar:nodes:{NODE}:events"), ("PSUBSCRIBE", "*"),
            ("PUBLISH", f"{other}:commands", "x"), ("PUBLISH", commands_channel(NODE), "x"),
            ("PUBLISH", f"{other}:events", "x"), ("XADD", commands_queue(NODE), "*", "command", "x"),
            ("XADD", f"{other}:events:log", "*", "event", "x"), ("DEL", events_log(NODE)),
            ("XDEL", events_log(NODE), "1-0"),
            ("XREADGROUP", "GROUP", "daemon", "x", "STREAMS", f"{other}:commands:queue", ">"),
            ("GET", "x"), ("SET", "x", "y"), ("ACL", "LIST"), ("MONITOR",),
        ]  # fmt: skip
        for command in forbidden:
            with self.assertRaisesRegex(RuntimeError, "NOPERM", msg=str(command)):
                self.as_node()(*command)

    async def test_r01_the_narrower_fence_without_transactions(self) -> None:
        """R01: an ACL of an operator's own without MULTI and EXEC is enough; rows then go one at a time."""
        self.ask("ACL", "SETUSER", NODE, "-multi", "-exec")
        self.store.add(50)
        await self.works()
        assert not self.publisher._transactions
        assert self.log_length() == 51

    def test_r01_line_for_the_acl_file(self) -> None:
        """R01: the printed line is taken by a Redis that reads it from its ACL file, and holds the token as a hash."""
        line = redis_acl(NODE, TOKEN, sentinel=True)
        assert TOKEN not in line
        redis = RedisServer()
        self.addCleanup(redis.stop)
        (redis.folder / "users.acl").write_text(f"user default on nopass {FULL}\n{line}\n")
        redis.config = (f"aclfile {redis.folder}/users.acl",)
        redis.start()
        assert redis.ask(NODE, TOKEN)("WAIT", 0, 1) == 0


class TlsTests(TestCase):
    """rediss:// against a Redis that asks for a client certificate."""

    skip = missing()
    timeout = 60

    def setUp(self) -> None:
        self.redis = RedisServer(tls=True)
        self.addCleanup(self.redis.stop)
        self.certificates = Certificates(self.redis.folder)
        self.redis.config = (
            f"tls-ca-cert-file {self.certificates.ca_file}",
            f"tls-cert-file {self.certificates.server_file}",
            f"tls-key-file {self.certificates.server_key}",
            "tls-auth-clients yes",
            f"requirepass {TOKEN}",
        )
        self.redis.start()

    def dialer(self, host: str = "localhost", *, own: bool = True, ca: Path | None = None) -> RedisDialer:
        def tls(name: str) -> IOpenSSLClientConnectionCreator:
            trust = ssl.Certificate.loadPEM((ca or self.certificates.ca_file).read_bytes())
            mine = ssl.PrivateCertificate.loadPEM(self.certificates.client_pem()) if own else None
            creator: IOpenSSLClientConnectionCreator = ssl.optionsForClientTLS(name, trust, mine)
            return creator

        url = parse_redis_url(f"rediss://{host}:{self.redis.port}", require_tls=True)
        return RedisDialer(reactor=clock, url=url, login=Login(NODE, TOKEN), tls=tls)

    async def fails(self, dialer: RedisDialer) -> str:
        error = await self.assertFailure(self._dial(dialer), Exception)
        return f"{type(error).__name__}: {error}"

    def _dial(self, dialer: RedisDialer) -> Any:
        return Deferred.fromCoroutine(dialer.dial())

    async def test_mutual_tls(self) -> None:
        """With the node's certificate and the right CA it connects and logs in."""
        wire = await self.dialer().dial()
        assert await wire.call("PING") == b"PONG"
        wire.drop("done")
        await wire.when_lost()

    async def test_foreign_ca(self) -> None:
        """A Redis whose certificate another CA signed is not spoken to."""
        foreign = Certificates(self.redis.folder / "foreign")
        assert "certificate verify failed" in await self.fails(self.dialer(ca=foreign.ca_file))

    async def test_wrong_name(self) -> None:
        """A certificate for another host name is not accepted."""
        assert (await self.fails(self.dialer("ip6-localhost.localdomain.invalid"))).startswith("RedisUnavailable")
        assert "VerificationError" in await self.fails(self.dialer("127.0.0.1"))

    async def test_without_our_certificate(self) -> None:
        """Where Redis asks for a client certificate and we have none, the story says TLS."""
        assert "RedisUnavailable" in await self.fails(self.dialer(own=False))
