"""Frames in one segment with the upgrade request, on real sockets with and without TLS (PROTOCOL 8)."""

from __future__ import annotations

import json
import shutil
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from stellarstack.api.http import HttpListener
from stellarstack.auth.tls import TlsContexts
from tests.console_rooms import Rooms
from tests.fake_container import Program
from tests.fake_engine import FakeEngine
from tests.integration.hand_socket import TEXT, HandSocket, Refused, frame
from tests.test_auth_tls import Authority, pem, write

reactor: Any = _reactor
PIPED = "stellarstack.console.v1"


def say(**message: Any) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


class AheadTests(TestCase):
    """The daemon's own listener."""

    secure = False

    async def serve(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ahead"))
        self.addCleanup(shutil.rmtree, self.folder)
        engine = FakeEngine(clock=reactor, images={"game": Program(output="hello\n", replies={"list": "nobody\n"})})
        self.rooms = Rooms(engine=engine, directory=self.folder / "consoles", reactor=reactor, now=time.time)
        self.rooms.tokens.add("good")
        console = await self.rooms.open()
        game = await engine.create_container("game_1", {"Image": "game", "Tty": True, "OpenStdin": True})
        await console.attach(game)
        await engine.start(game)
        authority = Authority("our CA")
        files = authority.issue(self.folder, "localhost", addresses=["127.0.0.1"])
        self.trust = ssl.create_default_context(cafile=str(write(self.folder / "ca.crt", pem(authority.certificate))))
        tls = TlsContexts(files).server() if self.secure else None
        listener = HttpListener(site=self.rooms.site, reactor=reactor, host="127.0.0.1", port=0, tls=tls)
        self.port = await listener.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.rooms.close()))

    def dial(self) -> HandSocket:
        made = HandSocket(self.port)
        if self.secure:
            made.socket = self.trust.wrap_socket(made.socket, server_hostname="localhost")
        return made

    def ask(self, token: str | None, ahead: bytes, cut: int | None = None) -> list[str]:
        """The types of the three first messages; each part is a segment and a TLS record of its own."""
        caller = self.dial()
        try:
            head, key = caller.request(token, subprotocol=PIPED)
            sent, at = head + ahead, len(head) + (cut or 0)
            caller.send(sent[:at] if cut is not None else sent)
            if cut is not None:
                caller.send(sent[at:])
            caller.shaken(key)
            found = [caller.receive() for _ in range(3)]
            return [one.json()["type"] for one in found if one is not None]
        finally:
            caller.close()

    async def test_taken_in_order(self) -> None:
        """With the token in the header and with the auth frame pipelined, whole and cut around the request's end."""
        await self.serve()
        for token, ahead in (("good", say(type="ping")), (None, say(type="auth", token="good") + say(type="ping"))):
            for cut in (None, -2, 0, 1, 9, len(ahead) - 1):
                found = await deferToThread(self.ask, token, ahead, cut)
                self.assertEqual(sorted(found), ["output", "pong", "ready"], (token, cut))
                self.assertEqual(found[0], "ready")

    async def test_while_judged(self) -> None:
        """What megabytes are sent while a token is judged stay with their sender; then 1008."""
        await self.serve()
        slow = self.rooms.tokens.slow = Deferred()
        flood = say(type="ping") * 100_000

        def call() -> int | None:
            caller = self.dial()
            try:
                head, key = caller.request("good", subprotocol=PIPED)
                caller.send(head)
                caller.socket.settimeout(0.5)
                held = False
                try:
                    caller.send(flood * 8)
                except TimeoutError:
                    held = True
                if not held:
                    raise AssertionError("all of it was read")
                caller.socket.settimeout(20)
                reactor.callFromThread(slow.callback, None)
                if self.secure:  # a record that was cut short cannot be gone on with
                    return None
                caller.shaken(key)
                return caller.close_code()
            finally:
                caller.close()

        code = await deferToThread(call)
        self.assertEqual(code, None if self.secure else 1008)

    async def test_refused(self) -> None:
        """H01: the answer arrives whatever is sent behind it, it is the only one, and the connection ends."""
        await self.serve()

        def call() -> tuple[int, bytes]:
            caller = self.dial()
            head, key = caller.request("bad", subprotocol=PIPED)
            caller.send(head + b"GET /console HTTP/1.1\r\nHost: n\r\n\r\n" * 2000)
            try:
                caller.shaken(key)
            except Refused as refused:
                return refused.status, caller.socket.recv(1)
            finally:
                caller.close()
            raise AssertionError("let in")

        self.assertEqual(await deferToThread(call), (401, b""))


class AheadTlsTests(AheadTests):
    """The same under TLS."""

    secure = True
