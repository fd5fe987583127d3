"""A game that floods its console: it is told, it is read within bounds, and it is neither paused nor killed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stellarstack.config import ConsoleConfig
from stellarstack.core.frames import Encoding
from stellarstack.core.records import ServerStatus
from stellarstack.viewing import ViewRequest
from tests.examples import examples
from tests.test_console import ConsoleCase, Wire

RATE = 2**20
SECOND = b"flood and nothing else\n" * (2 * RATE // 23)  # twice as much as may be printed


def notices(wire: Wire) -> list[dict[str, Any]]:
    return [frame for frame in wire.frames if isinstance(frame, dict) and frame["type"] == "notice"]


class FloodCase(ConsoleCase):
    def flood(self, seconds: int) -> None:
        """Twice the rate, in four pieces a second."""
        for _ in range(seconds * 4):
            self.say(SECOND[: len(SECOND) // 4], after=0.25)

    def published(self) -> list[str]:
        """The game's own lines that went out as `server.log`."""
        rows = [row["log"] for row in self.rooms.bus.named("server.log")]
        return [row["message"] for row in rows if row["stream"] == "stdout"]

    def timers(self) -> list[str]:
        """Of the console's, whatever others the node has."""
        calls = [str(call) for call in self.clock.getDelayedCalls()]
        return [call for call in calls if "FloodWatch" in call or "LineReaders" in call or "FanOut" in call]

    def quiet(self, seconds: int) -> None:
        for _ in range(seconds):
            self.say("", after=1)


class AnnouncedTests(FloodCase):
    """Over `flood_bytes_per_second` for three seconds."""

    def test_told_and_told_over(self) -> None:
        """To viewers of every kind, one that is full and one that comes later too; the panel by one alert."""
        self.run_game()
        raw, text, full = self.view(Encoding.RAW), self.view(), self.view(Encoding.RAW, room=1)
        plain, lines = self.view(Encoding.PLAIN), list[bytes]()
        plain.write = lines.append  # type: ignore[method-assign, assignment]
        self.flood(2)
        self.assertEqual(notices(raw), [])
        self.flood(3)
        (told,) = notices(raw)
        self.assertEqual((told["code"], notices(text), notices(full)), ("flood", [told], [told]))
        self.assertAlmostEqual(told["bytesPerSecond"] / RATE, 2, places=1)
        self.assertEqual(notices(self.view()), [told])
        remarks = [line for line in lines if b"floods" in line]
        self.assertEqual(remarks, [f"\x18\r\n\x1b[2m[stellarstack: {told['message']}]\x1b[22m\r\n".encode()])
        (alert,) = self.rooms.bus.named("node.alert")
        self.assertEqual((alert["code"], alert["serverId"], alert["severity"]), ("console_flood", "srv_1", "warning"))
        self.quiet(7)
        over = notices(raw)[1]
        self.assertEqual(
            (over["code"], over["seconds"], over["bytes"]), ("flood_over", 5.0, 5 * 4 * (len(SECOND) // 4))
        )
        self.assertEqual([notices(text)[1], notices(full)[1]], [over, over])
        self.assertIn(b"the flood is over", lines[-1])
        self.assertEqual(notices(self.view()), [])
        self.assertEqual(len(self.rooms.bus.named("node.alert")), 1)

    def test_lines_not_published(self) -> None:
        """The end tells how many lines of it `server.log` does not have, of large pieces about how many."""
        self.run_game()
        raw = self.view(Encoding.RAW)
        self.flood(4)
        self.quiet(8)
        published = len(self.published())
        (_, over) = notices(raw)
        self.assertAlmostEqual((over["unpublished"] + published) / raw.raw.count(b"\n"), 1.0, places=2)
        self.assertIn(str(over["unpublished"]), over["message"])
        self.assertLess(published, 201 + 4 * 21 + 200)

    def test_every_line_is_counted_again(self) -> None:
        """Once a flood is over, usual output is published line by line again."""
        self.run_game()
        self.flood(2)
        self.quiet(8)
        before = len(self.published())
        self.say(b"calm\n" * 150)
        self.assertEqual(len(self.published()) - before, 150)

    def test_an_honest_burst(self) -> None:
        """A start that prints megabytes in a moment is no flood; and silence costs no timer."""
        self.run_game()
        raw = self.view(Encoding.RAW)
        self.flood(2)
        self.assertNotEqual(self.timers(), [])
        self.quiet(4)
        self.assertEqual((notices(raw), self.timers()), ([], []))

    def test_off(self) -> None:
        """`flood_bytes_per_second = 0`: nobody is told."""
        self.config = ConsoleConfig(flood_bytes_per_second=0)
        self.boot()
        self.run_game()
        raw = self.view(Encoding.RAW)
        self.flood(6)
        self.quiet(7)
        self.assertEqual((notices(raw), self.rooms.bus.named("node.alert")), ([], []))

    def test_the_daemon_stops_meanwhile(self) -> None:
        """No timer is left."""
        self.run_game()
        self.flood(4)
        self.now(self.rooms.consoles.stop())
        self.assertEqual(self.timers(), [])


class ReadTests(FloodCase):
    """K17: those who read by line do bounded work, and hear the newest of it."""

    def test_a_watcher(self) -> None:
        """A ready check under flood: so many lines a second and no more, in order; what ends the flood is heard."""
        self.run_game()
        seen: list[str] = []
        self.console.watch(seen.append)
        number, before = 0, 0
        for _ in range(5):
            for _ in range(10):
                self.say("".join(f"{number + at}\n" for at in range(20_000)), after=0.1)
                number += 20_000
            read, before = len(seen) - before, len(seen)
            self.assertLess(read, 100_000)
            self.assertGreater(read, 1000)
        self.say("Done!\n")
        for _ in range(60):
            self.say("", after=0.05)
        numbers = [int(line) for line in seen if line.isdigit()]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual((seen[-1], numbers[-1]), ("Done!", number - 1))
        self.say("and on\n")
        self.assertEqual(seen[-1], "and on")

    def test_usual_output_is_read_at_once(self) -> None:
        """Nobody waits who does not print too much."""
        self.run_game()
        seen: list[str] = []
        self.console.watch(seen.append)
        for _ in range(50):
            self.say(b"a usual line of a game that starts, with some eighty letters of what it does now\n" * 100)
            self.assertEqual(len(seen) % 100, 0)
            self.clock.advance(0.1)
        self.assertEqual(len(seen), 5000)

    def test_a_run_ends_in_a_flood(self) -> None:
        """What still waits is read when the next run begins, before anything of it."""
        self.run_game()
        seen: list[str] = []
        self.console.watch(seen.append)
        self.say("x\n" * 40_000 + "the last\nand a half")
        self.now(self.console.attach(self.engine.all()[0].id))
        self.say("next\n", after=3)
        self.assertEqual(seen[-1], "next")
        self.assertIn("and a half", seen)


class CapTests(FloodCase):
    """`flood_viewer_bytes_per_second`: what is more in a second is one gap; the scrollback has all."""

    config = ConsoleConfig(flood_viewer_bytes_per_second=1000)

    def test_one_gap_a_second(self) -> None:
        """All viewers alike; what comes in the next second is shown, and a page of history holds what was not."""
        self.run_game()
        raw, text = self.view(Encoding.RAW), self.view()
        for _ in range(8):
            self.say(b"0123456789" * 50)
        self.assertEqual((len(raw.raw), raw.gaps, text.gaps), (1000, [], []))
        self.clock.advance(1)
        self.assertEqual((raw.gaps, text.gaps), ([(1000, 4000)], [(1000, 4000)]))
        self.say("on\n")
        self.assertEqual((raw.raw[1000:], text.text[1000:]), (b"on\n", "on\n"))
        self.assertEqual(len(self.now(self.console.history(None, 5000)).data), 4003)

    def test_a_bare_terminal(self) -> None:
        """SSH tells it as any other gap."""
        self.run_game()
        wire, lines = self.view(Encoding.PLAIN), list[bytes]()
        wire.write = lines.append  # type: ignore[method-assign, assignment]
        self.say(b"x" * 1000)
        self.say(b"y" * 500, after=1)
        self.assertEqual(lines, [b"x" * 1000, b"\x18\r\n[stellarstack: 500 bytes are missing here]\r\n"])

    def test_replay_is_not_capped(self) -> None:
        """What is in the scrollback is shown to who asks for it; then the bound holds for him, too."""
        self.run_game()
        for _ in range(4):
            self.say(b"x" * 1000)
        late = self.view(Encoding.RAW, since=0)
        self.assertEqual((len(late.raw), late.gaps), (4000, []))
        self.say(b"y" * 1000, after=1)
        self.assertEqual((len(late.raw), late.gaps), (4000, [(4000, 5000)]))

    def test_status_in_a_hole(self) -> None:
        """The server's changes do not wait."""
        self.run_game()
        raw = self.view(Encoding.RAW)
        self.say(b"x" * 1000)
        self.say(b"y" * 1000)
        self.console.set_status(ServerStatus.STOPPING)
        self.assertEqual(raw.frames[-1], {"type": "status", "status": "stopping"})

    @examples(40)
    @given(st.data())
    def test_bytes_or_a_gap(self, data: st.DataObject) -> None:
        """Any stream, cuts, pauses, slowness: each viewer gets exactly the bytes or an explicit gap, JSON its text."""
        self.config = ConsoleConfig(flood_viewer_bytes_per_second=data.draw(st.integers(1, 40)))
        self.setUp()
        self.run_game()
        whole = "".join(data.draw(st.lists(st.sampled_from(["a", "é", "€", "😀", "\n"]), max_size=80))).encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
        wires = [self.view(), self.view(Encoding.RAW), self.view(room=2), self.view(Encoding.RAW, room=2)]
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            self.say(whole[start:end], after=data.draw(st.sampled_from([0.0, 0.06, 0.2, 1.1])))
            for wire in wires[2:]:
                wire.room = data.draw(st.integers(1, 4))
                wire.viewer.free()
        for wire in wires:
            wire.room = 1 << 30
            wire.viewer.free()
        self.say("", after=1.2)
        for wire in wires:
            self.assertEqual(self.followed(wire, whole), len(whole))

    def followed(self, wire: Wire, whole: bytes) -> int:
        """How far the viewer came, each frame where the one before it ended."""
        at = 0
        for frame in wire.frames:
            if isinstance(frame, bytes):
                self.assertEqual(frame, whole[at : at + len(frame)])
                at += len(frame)
            elif frame["type"] == "gap":
                self.assertEqual(frame["from"], at)
                self.assertGreater(frame["to"], at)
                at = frame["to"]
            elif frame["type"] == "output":
                said = whole[at : frame["end"]].decode("utf-8", "replace")
                self.assertEqual((frame["offset"], frame["data"]), (at, said))
                at = frame["end"]
        return at


class OneOfManyTests(FloodCase):
    def test_another_server(self) -> None:
        """Each is judged by itself."""
        other = self.now(self.rooms.open("srv_2"))
        self.run_game()
        wire = Wire()
        wire.viewer = self.now(other.view(ViewRequest(Encoding.RAW), wire))
        self.flood(5)
        self.assertEqual(notices(wire), [])
