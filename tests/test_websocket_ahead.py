"""What a viewer sends behind its upgrade request before the answer is there (PROTOCOL 8, SECURITY H01)."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from tests.integration.hand_socket import BINARY, CLOSE, PING, TEXT, frame
from tests.test_websocket import RAW, DoorCase
from tests.ws_client import HandshakeRefused, MemoryEnd, WsClient, bearer, connect_memory, settle

ANSWERED = ["ready", "output", "pong"]
QUICK = b"GET /console HTTP/1.1\r\nHost: n\r\n\r\n"


def say(**message: Any) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


class Silent(WsClient):
    """Says nothing by itself."""

    def connectionMade(self) -> None:
        pass


class AheadCase(DoorCase):
    def call(self, token: str | None, ahead: bytes, cut: int | None = None, **more: Any) -> tuple[WsClient, MemoryEnd]:
        """An upgrade with `ahead` right behind it; cut in two segments at `cut`, counted from the request's end."""
        headers = {**(bearer(token) if token is not None else {}), **more.pop("headers", {})}
        viewer, end = connect_memory(self.clock, self.rooms.site, "/console", headers, kind=Silent, **more)
        hello = viewer.hello()
        sent = hello + ahead
        at = len(hello) + (cut or 0)
        for part in [sent] if cut is None else [sent[:at], sent[at:]]:
            viewer.write(part)
            settle(self.clock)
        return viewer, end

    def kinds(self, viewer: WsClient) -> list[str]:
        return [message["type"] for message in viewer.messages()]


class AheadTests(AheadCase):
    """It is taken as if it had come behind the answer, in order."""

    def test_behind_a_header_token(self) -> None:
        """A frame in the segment of the upgrade is answered, after `ready`."""
        viewer, _ = self.call("good", say(type="ping"))
        self.assertEqual(self.kinds(viewer), ANSWERED)

    def test_the_auth_frame(self) -> None:
        """The first frame may stand right behind the upgrade, and others behind it."""
        viewer, _ = self.call(None, say(type="auth", token="good") + say(type="ping"))
        self.assertEqual(self.kinds(viewer), ANSWERED)
        viewer, _ = self.call(None, say(type="auth", token="bad") + say(type="ping"))
        self.assertEqual((self.kinds(viewer), viewer.close_code), ([], 4401))

    def test_any_cut(self) -> None:
        """Wherever the segments begin: around the request's end, in a frame, between frames."""
        for token, ahead in (
            ("good", say(type="ping")),
            (None, say(type="auth", token="good") + say(type="ping")),
        ):
            for cut in range(-3, len(ahead)):
                viewer, _ = self.call(token, ahead, cut)
                self.assertEqual(self.kinds(viewer), ANSWERED, (token, cut))
                viewer.drop()
                settle(self.clock)

    def test_while_the_token_is_judged(self) -> None:
        """Segments that come during the judgement are kept in their order; nothing is said before `ready`."""
        slow = self.rooms.tokens.slow = Deferred()
        viewer, _ = self.call("good", frame(BINARY, b"li"), 3, subprotocols=[RAW])
        for part in (frame(BINARY, b"st"), frame(BINARY, b"\r")[:4], frame(BINARY, b"\r")[4:], say(type="ping")):
            viewer.write(part)
            settle(self.clock)
        self.assertFalse(viewer.opened.called)
        slow.callback(None)
        settle(self.clock)
        found = viewer.messages()
        self.assertEqual([m["type"] for m in found if isinstance(m, dict)], ["ready", "pong"])
        self.assertEqual(found[0]["type"], "ready")
        self.assertIn(b"nobody", b"".join(m for m in found if isinstance(m, bytes)))

    def test_while_the_console_opens(self) -> None:
        """What is typed while the console is still being read from disk is neither lost nor done before `ready`."""
        for token, first in (("good", b""), (None, say(type="auth", token="good"))):
            reading: Deferred[None] = Deferred()
            view = self.console.view

            async def slowly(*args: Any, reading: Deferred[None] = reading, view: Any = view) -> Any:
                await reading
                return await view(*args)

            patch = self.patch(self.console, "view", slowly)
            viewer, _ = self.call(token, first + say(type="input", data="list\r") + say(type="ping"))
            self.assertEqual(self.kinds(viewer), [], token)
            reading.callback(None)
            settle(self.clock)
            found = viewer.messages()
            self.assertEqual(found[0]["type"], "ready")
            self.assertIn("pong", [m["type"] for m in found])
            self.assertIn("nobody", "".join(m.get("data", "") for m in found))
            patch.restore()

    def test_control_frames(self) -> None:
        """A ping of RFC 6455 is answered, a close frame closes."""
        viewer, _ = self.call("good", frame(PING, b"x") + frame(CLOSE, b"\x03\xe8"))
        self.successResultOf(viewer.opened)
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1000)
        self.assertEqual(len(self.rooms.endpoint), 0)


class BoundTests(AheadCase):
    """H04: nobody makes us keep more than the bound for a token that is still judged."""

    def flood(self, token: str, part: bytes, parts: int) -> tuple[WsClient, MemoryEnd, Deferred[None]]:
        slow: Deferred[None] = Deferred()
        self.rooms.tokens.slow = slow
        viewer, end = self.call(token, b"")
        for _ in range(parts):
            viewer.write(part)
            settle(self.clock)
        return viewer, end, slow

    def test_reading_is_paused(self) -> None:
        """Of megabytes no more is read than the bound and one read; the rest stays with its sender."""
        part = say(type="ping") * 100
        viewer, end, slow = self.flood("good", part, 400)
        left = len(end.other.buffer)
        self.assertLessEqual(len(part) * 400 - left, self.rooms.site.limits.ahead + len(part))
        slow.callback(None)
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1008)

    def test_too_big_a_frame(self) -> None:
        """A frame over 64 KiB is 1009 as anywhere."""
        viewer, _, slow = self.flood("good", frame(TEXT, b" " * 70_000), 1)
        slow.callback(None)
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1009)

    def test_refused(self) -> None:
        """H01: behind a refused upgrade nothing is done, be it frames or HTTP: one answer, and the connection ends."""
        for part in (say(type="ping") * 100, QUICK * 400):
            viewer, end, slow = self.flood("bad", part, 10)
            slow.callback(None)
            settle(self.clock)
            found = self.failureResultOf(viewer.opened, HandshakeRefused).value
            assert isinstance(found, HandshakeRefused)
            self.assertEqual((found.status, found.headers["connection"]), (401, "close"))
            settle(self.clock, 1)
            settle(self.clock)
            self.assertTrue(end._gone)
            self.assertEqual(len(self.rooms.endpoint), 0)

    def test_an_upgrade_with_a_body(self) -> None:
        """H01: what a body's bytes would mean is not for two to judge: 400."""
        for header in ({"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}):
            viewer, _ = self.call("good", b"0\r\n\r\n" + QUICK, headers=header)
            found = self.failureResultOf(viewer.opened, HandshakeRefused).value
            assert isinstance(found, HandshakeRefused)
            self.assertEqual((found.status, found.code), (400, "invalid_request"))
