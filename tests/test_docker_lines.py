"""What the engine's streams and words are cut into and mean."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.docker.client import Answer, choose_api
from stellarstack.docker.containers import Newest
from stellarstack.docker.feed import event_of, since_text
from stellarstack.docker.fields import flag, instant, labels, number, sequence, text
from stellarstack.docker.lines import LINE_MAX, Frames, JsonLines
from stellarstack.docker.translation import one_line, refusal, taken_port
from stellarstack.docker.upgrade import HEAD_MAX, UpgradeAnswer
from stellarstack.errors import ContainerGone, DockerUnavailable, EngineConflict, EngineRefused, EngineTooOld
from tests.examples import examples

AGREED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class JsonLinesTests(SynchronousTestCase):
    """JSON lines of the feed and of pulls."""

    def test_every_cut(self) -> None:
        """K19: wherever the stream is cut in two, the same objects come out."""
        stream = '{"a": "ä"}\r\n\n[1]\n{"b": 2}\n'.encode()
        for at in range(len(stream) + 1):
            found: list[dict[str, Any]] = []
            lines = JsonLines(found.append)
            lines.feed(stream[:at])
            lines.feed(stream[at:])
            self.assertEqual(found, [{"a": "ä"}, {"b": 2}])

    def test_unreadable(self) -> None:
        """A line that is no JSON, or that nests beyond reason, is the engine's fault."""
        for bad in (b"nope\n", b"\xff\n", b"[" * 200_000 + b"\n"):
            self.assertRaises(DockerUnavailable, JsonLines(lambda _: None).feed, bad)

    def test_endless_line(self) -> None:
        """A line without an end does not grow in memory."""
        lines = JsonLines(lambda _: None)
        lines.feed(b"x" * LINE_MAX)
        self.assertRaises(DockerUnavailable, lines.feed, b"x")
        self.assertRaises(DockerUnavailable, JsonLines(lambda _: None).feed, b"1" * (LINE_MAX + 1) + b"\n")


class FramesTests(SynchronousTestCase):
    """The multiplexed stream of a container without a terminal."""

    def test_every_cut(self) -> None:
        """K19: wherever the stream is cut, in a head or in its bytes, the same bytes come out."""
        stream = b"\x01\0\0\0\0\0\0\x03abc" + b"\x02\0\0\0\0\0\0\0" + b"\x02\0\0\0\0\0\0\x02de"
        for at in range(len(stream) + 1):
            found: list[bytes] = []
            frames = Frames(found.append)
            frames.feed(stream[:at])
            frames.feed(stream[at:])
            self.assertEqual(b"".join(found), b"abcde")

    @examples(35)
    @given(some.lists(some.tuples(some.integers(0, 3), some.binary(max_size=50))), some.integers(1, 20))
    def test_any_frames(self, pieces: list[tuple[int, bytes]], step: int) -> None:
        """Any frames, cut in steps of any size, give their bytes."""
        stream = b"".join(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4) + data for kind, data in pieces)
        found: list[bytes] = []
        frames = Frames(found.append)
        for at in range(0, len(stream), step):
            frames.feed(stream[at : at + step])
        self.assertEqual(b"".join(found), b"".join(data for _, data in pieces))

    def test_no_frames(self) -> None:
        """A raw stream taken for a multiplexed one is noticed."""
        for bad in (b"plain text", b"\x01\0\0\0\xff\xff\xff\xff"):
            self.assertRaises(DockerUnavailable, Frames(lambda _: None).feed, bad)


class UpgradeAnswerTests(SynchronousTestCase):
    """The head of an attach."""

    def test_every_cut(self) -> None:
        """Wherever the answer is cut, the stream's first bytes come out after the head."""
        stream = AGREED + b"first"
        for at in range(len(stream) + 1):
            answer = UpgradeAnswer()
            pieces = [answer.feed(stream[:at])]
            if pieces[0] is None:
                pieces.append(answer.feed(stream[at:]))
                rest = b""
            else:
                rest = stream[at:]
            self.assertEqual((pieces[-1] or b"") + rest, b"first")

    def test_refusals(self) -> None:
        """The engine's words come out as errors, once the body is whole."""
        for status, kind in ((404, ContainerGone), (409, EngineConflict), (500, DockerUnavailable), (200 + 4, None)):
            answer = UpgradeAnswer()
            body = b'{"message":"so it is"}'
            head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
            self.assertIsNone(answer.feed(head + body[:5]))
            self.assertIsNone(answer.refusal)
            self.assertIsNone(answer.feed(body[5:]))
            self.assertIs(type(answer.refusal), kind or DockerUnavailable)
            self.assertIn("so it is" if kind else "204", str(answer.refusal))

    def test_no_http(self) -> None:
        """What is no HTTP, or a head without an end, is the engine's fault."""
        self.assertRaises(DockerUnavailable, UpgradeAnswer().feed, b"hello\r\n\r\n")
        self.assertRaises(DockerUnavailable, UpgradeAnswer().feed, b"x" * HEAD_MAX)


class NewestTests(SynchronousTestCase):
    """The bounded log."""

    @examples(35)
    @given(some.lists(some.binary(max_size=30)), some.integers(1, 60))
    def test_bounded_and_whole(self, pieces: list[bytes], limit: int) -> None:
        """At most `limit` bytes are kept: the stream's last whole lines."""
        newest = Newest(limit)
        for piece in pieces:
            newest.add(piece)
        kept, stream = newest.whole_lines(), b"".join(pieces)
        whole = stream[: stream.rfind(b"\n") + 1]
        self.assertLessEqual(len(kept), limit)
        self.assertTrue(whole.endswith(kept))
        self.assertTrue(kept == b"" or kept.endswith(b"\n"))
        if len(stream) <= limit:
            self.assertEqual(kept, whole)
        elif kept and len(kept) < len(whole):
            self.assertEqual(whole[: -len(kept)][-1:], b"\n")


class FieldsTests(SynchronousTestCase):
    """Values out of answers of odd shape."""

    def test_absent_and_odd(self) -> None:
        """What is not there, or of another type, is the empty value."""
        odds: tuple[object, ...] = ({}, {"a": None}, {"a": {"b": None}}, [], "x", None, {"a": 3}, {"a": {"b": {}}})
        for odd in odds:
            self.assertEqual((text(odd, "a", "b"), flag(odd, "a", "b"), sequence(odd, "a", "b")), ("", False, ()))
            self.assertEqual((number(odd, "a", "b"), labels(odd, "a", "b", "c")), (0, {}))

    def test_instant(self) -> None:
        """RFC 3339 becomes Unix seconds; Go's zero time and nonsense are None."""
        rows = {
            "2026-11-23T19:30:30.740027412Z": 1795462230.7400274,
            "2026-11-23T20:30:30+01:00": 1795462230.0,
            "0001-01-01T00:00:00Z": None,
            "2026-13-01T00:00:00Z": None,
            "soon": None,
        }
        for written, expected in rows.items():
            self.assertEqual(instant({"t": written}, "t"), expected)


class TranslationTests(SynchronousTestCase):
    """The engine's words and what they mean."""

    def test_taken_ports(self) -> None:
        """The port is found in the words of every Docker since 20.10; 0 where they name none; None for other causes."""
        rows = {
            "driver failed programming external connectivity on endpoint x (ab:12): "
            "Bind for 0.0.0.0:25565 failed: port is already allocated": 25565,
            "Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use": 8080,
            "Error starting userland proxy: listen udp6 [::]:19132: bind: address already in use": 19132,
            "failed to bind host port for 0.0.0.0:80:172.17.0.2:8000/tcp: address already in use": 80,
            "failed to bind port 127.0.0.1:53/tcp: address already in use": 53,
            "failed to bind host port 0.0.0.0:443/tcp: address already in use": 443,
            "address already in use": 0,
            "OCI runtime create failed": None,
        }
        for words, port in rows.items():
            self.assertEqual(taken_port(words), port, words)

    def test_refusals(self) -> None:
        """A status becomes the error that says whether asking again can help."""
        rows: list[tuple[int, str, type[Exception], bool]] = [
            (404, "no", ContainerGone, False),
            (409, "no", EngineConflict, False),
            (400, "no", EngineRefused, False),
            (400, "client version 1.41 is too old. Minimum supported API version is 1.44", DockerUnavailable, True),
            (500, "no", DockerUnavailable, True),
        ]
        for status, words, kind, retry in rows:
            error = refusal(status, words, ContainerGone)
            self.assertEqual((type(error), error.retry, str(error)), (kind, retry, f"Docker: {words}"))
        self.assertEqual(str(refusal(500, "")), "Docker: HTTP status 500")

    def test_one_line(self) -> None:
        """Words of any length and any characters come out as one bounded line."""
        self.assertEqual(one_line("a\r\n\tb\x1b[31mc  d\0"), "a b [31mc d")
        self.assertEqual(len(one_line("x" * 100_000)), 400)

    def test_api_versions(self) -> None:
        """1.41 where both sides have it, else the nearest; below 1.40 EngineTooOld, and so is nonsense."""
        rows = {
            ("1.41", "1.12"): (1, 41),
            ("1.40", "1.12"): (1, 40),
            ("1.52", "1.44"): (1, 44),
            ("1.50", "1.24"): (1, 41),
        }
        for (newest, oldest), expected in rows.items():
            self.assertEqual(choose_api(newest, oldest), expected)
        for bad in ("1.39", "", "x.y", "1"):
            self.assertRaises(EngineTooOld, choose_api, bad, "1.12")

    def test_answers(self) -> None:
        """The engine's message is found in a JSON body and in a plain one; a body that is no JSON is its fault."""
        self.assertEqual(Answer(500, b'{"message":"no"}').message, "no")
        self.assertEqual(Answer(500, b"page not found\n").message, "page not found\n")
        self.assertEqual(Answer(500, b"{}").message, "{}")
        self.assertRaises(DockerUnavailable, Answer(200, b"<html>").json)


class FeedLineTests(SynchronousTestCase):
    """Lines of the event feed."""

    def test_since(self) -> None:
        """The time goes out with nanoseconds and is never later than what was given."""
        self.assertEqual(since_text(1795462230.5), "1795462230.500000000")
        self.assertEqual(since_text(-1), "0.000000000")
        for since in (1795462230.123456, 1795462230.999999, 0.1):
            self.assertLessEqual(float(since_text(since)), since)

    def test_events(self) -> None:
        """A container's line becomes an event; other lines none; a bad exit status is none."""
        line = {"Type": "container", "Action": "die", "timeNano": 1500000000, "time": 1,
                "Actor": {"ID": "c1", "Attributes": {"exitCode": "137", "stellarstack.node": "n"}}}  # fmt: skip
        event = event_of(line)
        assert event is not None
        self.assertEqual((event.action, event.container_id, event.exit_code, event.time), ("die", "c1", 137, 1.5))
        self.assertIsNone(event_of({**line, "Type": "network"}))
        self.assertIsNone(event_of({"Type": "container"}))
        odd = event_of({"Type": "container", "id": "c2", "time": 7, "Actor": {"Attributes": {"exitCode": "²"}}})
        assert odd is not None
        self.assertEqual((odd.exit_code, odd.time), (None, 7.0))
