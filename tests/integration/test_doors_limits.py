"""W13: as many as may sit at a console, as much as they may say, and whoever else comes harms nobody."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from tests.integration.door_case import MB, DoorCase
from tests.integration.hand_socket import BINARY, CLOSE, TEXT, HandSocket, Refused, frame

SEATS = 30
ATTEMPTS, BURST = 2000, 50


class LimitTests(DoorCase):
    config = f"[console]\nviewers_per_server = {SEATS}\n"

    def setUp(self) -> None:
        super().setUp()
        self.node.create("srv_2", self.game)

    def crowd(self) -> list[HandSocket]:
        """Every seat of srv_1 taken, by header and by first frame."""
        return [self.enter(first_frame=bool(number % 2)) for number in range(SEATS)]

    def test_seats(self) -> None:
        """W13: the 31st connection gets 429 or 1013; a seat that is left is free again, and only that one."""
        seated = self.crowd()
        for _ in range(3):
            self.turned_away()
            self.enter("srv_2").close()
            left = seated.pop(0)
            left.send(frame(CLOSE, b"\x03\xe8"))
            self.assertEqual(left.close_code(), 1000)
            seated.append(self.enter())
        self.turned_away()
        seated.pop().close()  # without a word
        seated.append(self.node.until(self.let_in, 10, "the seat of one that just went"))
        self.turned_away()
        self.answers(seated[0], seated[-1])

    def turned_away(self) -> None:
        with self.assertRaises(Refused) as caught:
            self.enter()
        self.assertEqual((caught.exception.status, caught.exception.code), (429, "too_many_connections"))
        late = self.dial().hello()
        late.say(type="auth", token=self.node.token("srv_1"))
        self.assertEqual(late.close_code(), 1013)

    def let_in(self) -> HandSocket | None:
        try:
            return self.enter()
        except Refused:
            return None

    def test_frames_and_messages(self) -> None:
        """W13: a frame of 1 MiB is 1009; of 1 000 messages in a second ten are `rate_limited`, then it is 1008."""
        other = self.enter("srv_2")
        for opcode in (TEXT, BINARY):
            session = self.enter()
            session.try_send(frame(opcode, b"x" * MB))
            self.assertEqual(session.close_code(), 1009)
        for message in (
            frame(TEXT, b'{"type":"ping"}'),
            frame(BINARY, b"x"),
            frame(TEXT, b'{"type":"input","data":"x"}'),
        ):
            session = self.enter(path="/console?scrollback=0")
            for _ in range(1000):
                if not session.try_send(message):
                    break
            self.assertEqual(*self.told_off(session))
            self.answers(other)
        session = self.enter(path="/console?scrollback=0")
        session.try_send(frame(BINARY, b"x") * 1000)
        self.assertEqual(*self.told_off(session))
        whole = self.enter()
        whole.send(frame(BINARY, b"\r"))  # ends the line of what was let through
        self.answers(other, whole)

    def told_off(self, session: HandSocket) -> tuple[Any, Any]:
        """What a session was told that said too much, and what it should have been."""
        codes: list[Any] = []
        while (found := session.receive()) is not None and found.opcode != CLOSE:
            if found.opcode == TEXT and found.json()["type"] == "error":
                codes.append(found.json()["code"])
        assert found is not None, codes
        codes.append(int.from_bytes(found.payload[:2], "big"))
        session.try_send(frame(CLOSE, found.payload))
        return codes, ["rate_limited"] * 10 + [1008]

    def test_attempts(self) -> None:
        """W13: 2 000 attempts cost under 64 MB; another console answers all along, and good tokens get in."""
        self.crowd()
        other = self.enter("srv_2")
        tokens = {
            "good": self.node.token("srv_1"), "expired": self.node.token("srv_1", lifetime=-5.0),
            "files": self.node.token("srv_1", ["files.read"]), "gone": self.node.token("srv_9"),
            "bad": "strk_console_x",
        }  # fmt: skip
        kept: deque[HandSocket] = deque(maxlen=600)  # more than the daemon itself keeps; they never let go
        self.node.forget_peak()
        before, seen = self.node.rss(), Counter[str]()
        for burst in range(ATTEMPTS // BURST):
            came = [self.attempt(number, tokens) for number in range(BURST)]
            self.answers(other)
            self.enter("srv_2", first_frame=bool(burst % 2)).close()
            for session, kind, key in came:
                seen[self.outcome(session, kind, key, tokens)] += 1
                kept.append(session)
        share = ATTEMPTS // 10
        self.assertEqual(seen, {"waits": 2 * share, "silent": share, "1013": share, "4401": share, "429": share,
                                "401": 2 * share, "403": share, "404": share})  # fmt: skip
        self.assert_grew_less(64 * MB, before)
        self.answers(other)

    def attempt(self, number: int, tokens: dict[str, str]) -> tuple[HandSocket, str, bytes]:
        """One that comes with its handshake, or without a word."""
        rows = ("waits", "silent", "late good", "late bad", "good", "expired", "files", "gone", "bad", "waits")
        kind = rows[number % len(rows)]
        session = self.dial(timeout=10)
        if kind == "silent":
            return session, kind, b""
        head, key = session.request(tokens.get(kind))
        session.send(head)
        return session, kind, key

    def outcome(self, session: HandSocket, kind: str, key: bytes, tokens: dict[str, str]) -> str:
        """How it ended: the status, the close code, or that it is left waiting."""
        if kind == "silent":
            return kind
        try:
            session.shaken(key)
        except Refused as refused:
            return str(refused.status)
        if kind == "waits":
            return kind
        session.say(type="auth", token=tokens[kind.split()[1]])
        found = session.receive()  # and it does not answer the close frame
        assert found is not None and found.opcode == CLOSE, found
        return str(int.from_bytes(found.payload[:2], "big"))
