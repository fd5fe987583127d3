"""What each permission of a token opens at the console and what it does not (W16); what hostile games print (P06)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.integration.door_case import BINARY, JSON, TALKER, DoorCase
from tests.integration.hand_socket import CLOSE, TEXT, HandSocket, Refused, frame

POWER = ("start", "stop", "restart", "kill")
READ = {"open", "search", "download"}
OPENS: dict[str, set[str]] = {  # beside console.read, which nothing does without
    "console.write": {"type", "resize"}, "stats.read": {"stats"}, **{f"control.{one}": {one} for one in POWER},
    "files.read": set(), "files.write": set(), "files.delete": set(), "backups.read": set(), "backups.write": set(),
    "console.admin": set(), "control": set(), "*": set(), "console.*": set(), "CONSOLE.WRITE": set(),
}  # fmt: skip
SHAPES: tuple[tuple[Any, set[str]], ...] = (
    ({"canRead": True, "canWrite": True}, READ | {"type", "resize", "stats"}),
    ({"canRead": True}, READ | {"stats"}),
    ({"canRead": False, "canWrite": False}, set()),
    ([], set()),
    (["console.read"], READ),
    *((["console.read", name], READ | opened) for name, opened in OPENS.items()),
    *(([name], set()) for name in OPENS),
)


class RightsTests(DoorCase):
    def test_matrix(self) -> None:
        """W16: of opening, typing, resizing, power, stats, search and download only what a token lists passes."""
        self.orders, self.marks = 0, set[str]()
        opened: list[tuple[Any, set[str], HandSocket, set[str]]] = []
        for number, (permissions, wanted) in enumerate(SHAPES):
            token = self.node.token("srv_1", permissions)
            passed = {what for what in ("search?q=Done", "download") if self.get(what, token)[0] == 200}
            passed = {what.partition("?")[0] for what in passed}
            session = self.open(token)
            if session is None:
                self.assertEqual(passed, wanted, permissions)
                continue
            passed |= {"open", *self.keys(session, number, wanted), *self.power(session, wanted)}
            opened.append((permissions, wanted, session, passed))
        full = self.enter(subprotocol=JSON)
        for _ in range(3):
            full.until("stats")
        for permissions, wanted, session, passed in opened:
            kinds, _ = self.ask(session)
            self.assertEqual(passed | ({"stats"} & kinds), wanted, permissions)
        self.assertEqual(len(opened), 4 + len(OPENS) - 1)
        self.nothing_else_was_done()

    def open(self, token: str) -> HandSocket | None:
        """The same by header and by first frame."""
        late = self.dial().hello(subprotocol=JSON)
        late.say(type="auth", token=token)
        try:
            session = self.enter(token=token, subprotocol=JSON)
        except Refused as refused:
            self.assertEqual((refused.status, refused.code), (403, "forbidden"))
            self.assertEqual(late.close_code(), 4403)
            return None
        late.until("ready")
        late.close()
        return session

    def ask(self, session: HandSocket, **message: Any) -> tuple[set[str], list[str]]:
        """Says this; the kinds of messages that came up to now, and the codes of the errors among them."""
        if message:
            session.say(**message)
        session.say(type="ping")
        kinds, codes = set[str](), list[str]()
        while "pong" not in kinds:
            found = session.receive()
            assert found is not None and found.opcode == TEXT, found
            kinds.add(found.json()["type"])
            codes += [found.json()["code"]] if found.json()["type"] == "error" else []
        session_kinds = self.seen.setdefault(id(session), set())
        session_kinds |= kinds
        return session_kinds, codes

    def setUp(self) -> None:
        super().setUp()
        self.seen: dict[int, set[str]] = {}

    def passes(self, session: HandSocket, **message: Any) -> bool:
        _, codes = self.ask(session, **message)
        self.assertIn(codes, ([], ["forbidden"]), message)
        return not codes

    def keys(self, session: HandSocket, number: int, wanted: set[str]) -> set[str]:
        found = set()
        if self.passes(session, type="input", data=f"mark {number}\r"):
            found.add("type")
            self.marks.add(f"mark {number}")
        if self.passes(session, type="resize", cols=100 + number, rows=40):
            found.add("resize")
            self.cols = 100 + number
        return found

    def power(self, session: HandSocket, wanted: set[str]) -> set[str]:
        found = set()
        if "start" in wanted:
            self.node.run("server.stop", serverId="srv_1")
        for action in POWER:
            if self.passes(session, type="power", action=action):
                found.add(action)
                self.orders += 1
                self.assertEqual(session.until("command.result")["status"], "succeeded")
        if found & {"stop", "kill"}:
            self.node.run("server.start", serverId="srv_1")
        return found

    def nothing_else_was_done(self) -> None:
        """What was refused was refused: the game heard nothing of it, nor did the household."""
        ours = {"server.create": 1, "server.stop": 1, "server.start": 2}
        acked = [event["command"] for event in self.node.events("command.ack")]
        self.assertEqual(len(acked), sum(ours.values()) + self.orders, acked)
        self.assertEqual(self.orders, len(POWER))
        typist = self.enter()
        typist.send(frame(BINARY, b"size\r"))
        typist.output(b"40 %d\r\n" % self.cols)
        text = self.get("download", self.node.token("srv_1"))[1].decode()
        said = {line.removeprefix("you said ") for line in text.splitlines() if line.startswith("you said mark")}
        self.assertEqual(said, self.marks)

    def get(self, what: str, token: str) -> tuple[int, bytes]:
        """A question over HTTP. 403 is the one refusal there is here."""
        address = f"http://127.0.0.1:{self.node.port}/api/v1/servers/srv_1/console/{what}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            self.assertEqual((error.code, json.loads(error.read())["error"]["code"]), (403, "forbidden"))
            return error.code, b""


PRINTED = (
    b"\x1b]0;title\x07\x1b]52;c;cm0gLXJmIC8=\x07\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\\n",
    b"\x1b[2J\x1b[1;31mred\x1b[?1049h\x1b[6n\x1bP+q544e\x1b\\\x1b_apc\x1b\\\x1bc\x9b31m\x9d0;c1\x9c\n",
    b'<script>alert("1")</script><img src=x onerror=alert(1)>&amp;"}\'\\u0000\\"],"type":"status"\n',
    b"\xe2\x80\xa8line\xe2\x80\xa9para\xe2\x80\xaebidi\xef\xbb\xbfbom\xef\xbf\xbe\xf0\x9f\x98\x80\n",
    b"bad \xff\xfe \xc3( \xa0\xa1 \xe2(\xa1 \xf0(\x8c\xbc \xc0\xaf \xed\xa0\x80\xed\xb0\x80 \xf4\x90\x80\x80 \xf8\n",
    b"nul \x00 bell \x07 back \x08\x08 del \x7f vt \x0b ff \x0c so \x0e si \x0f eot \x04\n",
    b"cut short \xf0\x9f\x98",
)


def printing(data: bytes) -> str:
    """The shell's word for it, byte by byte."""
    return "printf '" + "".join(rf"\{byte:03o}" for byte in data) + "'"


SCRIPT = "; ".join(map(printing, PRINTED)) + "; head -c 100000 /dev/zero; echo; echo 'all 'shown"
HOSTILE = TALKER.replace("    ticks)", f"    hostile) {SCRIPT};;\n    ticks)")


class HostileOutputTests(DoorCase):
    game = HOSTILE

    def test_hostile_output(self) -> None:
        """P06: whatever a game prints reaches JSON viewers as UTF-8 and JSON, now and later; raw ones get the bytes."""
        raw, live = self.enter(path="/console?since=0"), self.enter(path="/console?since=0", subprotocol=JSON)
        raw.send(frame(BINARY, b"hostile\r"))
        seen = raw.output(b"all shown\r\n", 30)
        for line in PRINTED:
            self.assertIn(line.replace(b"\n", b"\r\n"), seen)
        self.assertIn("all shown\r\n", self.text(live, len(seen))[0])
        text, frames = self.text(self.enter(path="/console?since=0", subprotocol=JSON), len(seen))
        self.assertEqual(text, seen.decode("utf-8", "replace"))
        self.assertEqual({message["type"] for message in frames} - {"stats"}, {"output"})
        live.say(type="history", limit=len(seen), before=len(seen))
        self.assertEqual(live.until("history")["data"], text)

    def text(self, session: HandSocket, end: int) -> tuple[str, list[dict[str, Any]]]:
        """What a JSON viewer is shown up to `end`, each frame read as strictly as can be."""
        shown, frames, at = "", list[dict[str, Any]](), 0
        while at < end:
            found = session.receive()
            assert found is not None and found.opcode not in (BINARY, CLOSE), found
            message = json.loads(found.payload.decode("utf-8", "strict"), parse_constant=self.fail)
            frames.append(message)
            if message["type"] == "output":
                self.assertEqual(message["offset"], at)
                message["data"].encode("utf-8", "strict")
                shown, at = shown + message["data"], message["end"]
        return shown, frames
