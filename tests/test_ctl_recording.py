"""`stellarctl console --record`, and what a game leaves switched on in a terminal."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.ctl.control import Refused
from stellarstack.ctl.recording import RecordedScreen, Recording
from stellarstack.ctl.screen_modes import ScreenModes
from tests.examples import examples


class Moments:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class RecordingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.path = self.folder / "a.cast"
        self.clock = Moments()

    def begin(self, **more: Any) -> Recording:
        asked = {"size": (100, 30), "title": "s on host", "clock": self.clock, **more}
        recording = Recording.begin(self.path, **asked)
        self.addCleanup(recording.close)
        return recording

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


class TestRecording(RecordingCase):
    """The file."""

    def test_events(self) -> None:
        """A v2 header, then each event with its seconds, in the file as soon as it has happened."""
        recording = self.begin()
        self.clock.now += 1.5
        recording.output(b"\x1b[1mhi\r\n")
        recording.resized((120, 40))
        recording.resized((120, 40))
        recording.resized(None)
        self.clock.now += 2
        recording.mark("a gap")
        header, *events = self.lines()
        self.assertEqual((header["version"], header["width"], header["height"]), (2, 100, 30))
        self.assertEqual(header["title"], "s on host")
        self.assertEqual(events, [[1.5, "o", "\x1b[1mhi\r\n"], [1.5, "r", "120x40"], [3.5, "m", "a gap"]])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_no_terminal(self) -> None:
        """Without a terminal the size is the usual 80 by 24."""
        self.begin(size=None)
        self.assertEqual((self.lines()[0]["width"], self.lines()[0]["height"]), (80, 24))

    @given(st.text(max_size=30), st.data())
    @examples(30)
    def test_cut_characters(self, text: str, draw: Any) -> None:
        """However the bytes are cut, the recording's text is the stream's; bad bytes become U+FFFD."""
        whole = text.encode("utf-8", "replace") + b"\xe2\x82"
        self.path.unlink(missing_ok=True)
        recording = self.begin()
        while whole:
            size = draw.draw(st.integers(1, len(whole)))
            recording.output(whole[:size])
            whole = whole[size:]
        recording.close()
        recording.close()
        shown = "".join(event[2] for event in self.lines()[1:])
        self.assertEqual(shown, text.encode("utf-8", "replace").decode() + "\ufffd")

    def test_never_overwrites(self) -> None:
        """A file that is there stays unless it is to be replaced; the new one is 0600, and no link is followed."""
        self.path.write_text("precious")
        self.assertIn("--force", str(self.assertRaises(Refused, self.begin)))
        self.assertEqual(self.path.read_text(), "precious")
        target = self.folder / "target"
        self.path.rename(target)
        self.path.symlink_to(target)
        self.assertRaises(Refused, self.begin)
        self.begin(force=True)
        self.assertEqual(target.read_text(), "precious")
        self.assertFalse(self.path.is_symlink())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_no_place(self) -> None:
        """A folder, a pipe or a path that is not there is one clear refusal."""
        self.path.mkdir()
        self.assertRaises(Refused, self.begin, force=True)
        self.path.rmdir()
        os.mkfifo(self.path)
        self.assertRaises(Refused, self.begin, force=True)
        self.path = self.folder / "none" / "a.cast"
        self.assertIn("No such file", str(self.assertRaises(Refused, self.begin)))

    def test_full_disk(self) -> None:
        """A disk that takes no more ends the recording after its last whole line, not the console."""
        recording = self.begin()
        recording.output(b"kept")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, before)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.path.stat().st_size + 50, limits[1]))
        screen = ShownScreen()
        recorded = RecordedScreen(screen, recording)
        for _ in range(3):
            recorded.show(b"x" * 100)
        self.assertEqual(screen.shown, b"x" * 300)
        self.assertEqual(screen.said, [f"the recording has ended: {recording.failed}"])
        self.assertEqual([event[2] for event in self.lines()[1:]], ["kept"])


class ShownScreen:
    """Keeps what it is to show."""

    interactive = True
    keys_ended = False

    def __init__(self) -> None:
        self.shown = b""
        self.said: list[str] = []

    def size(self) -> tuple[int, int] | None:
        return 50, 10

    def wait(self, others: list[Any], seconds: float, *, keys: bool) -> tuple[list[Any], bytes, bool]:
        return [], b"secret" if keys else b"", True

    def show(self, output: bytes) -> None:
        self.shown += output

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)


class TestRecordedScreen(RecordingCase):
    """A console on a screen that is recorded."""

    def test_goes_through(self) -> None:
        """All that the screen does is done, and recorded but for what was typed."""
        screen = ShownScreen()
        recorded = RecordedScreen(screen, self.begin())
        self.assertEqual((recorded.interactive, recorded.keys_ended, recorded.size()), (True, False, (50, 10)))
        self.assertEqual(recorded.wait([], 0, keys=True), ([], b"secret", True))
        recorded.show(b"out")
        recorded.say("s is running")
        recorded.warn("5 bytes not shown here")
        self.assertEqual((screen.shown, screen.said), (b"out", ["s is running", "5 bytes not shown here"]))
        events = [event[1:] for event in self.lines()[1:]]
        marks = [["m", "s is running"], ["m", "5 bytes not shown here"]]
        self.assertEqual(events, [["r", "50x10"], ["o", "out"], *marks])


CALM = b"\x1b[0m\x1b[?25h"


class TestScreenModes(SynchronousTestCase):
    """What is to be undone when a console ends."""

    def undone(self, *pieces: bytes) -> bytes:
        modes = ScreenModes()
        for piece in pieces:
            modes.feed(piece)
        return modes.undo()

    def test_rows(self) -> None:
        """What was switched on is switched off, newest first; what the game put back itself is left alone."""
        rows = [
            (b"plain \x1b[1;31mred", b""),
            (b"\x1b[?1049h\x1b[?1000;1006h", b"\x1b[?1006l\x1b[?1000l\x1b[?1049l"),
            (b"\x1b[?1049h\x1b[?2004h\x1b[?1049l\x1b[?2004l", b""),
            (b"\x1b[?7l\x1b[?25l", b"\x1b[?25h\x1b[?7h"),
            (b"\x1b[?1h\x1b=", b"\x1b>\x1b[?1l"),
            (b"\x1b=\x1b>", b""),
            (b"\x1b[>4;2m", b"\x1b[>4m"),
            (b"\x1b[>4;2m\x1b[>4;m", b""),
            (b"\x1b[2;20r\x1b[4h\x1b(0", b"\x1b7\x1b[r\x1b8\x1b[4l\x1b(B"),
            (b"\x1b[2;20r\x1b[r\x1b[4h\x1b[4l\x1b(0\x1b(B", b""),
            (b"\x1b[?1049h\x1b[2;20r\x1bc", b""),
            (b"\x1b[?12345h\x1b[?12h", b""),
        ]
        for output, expected in rows:
            self.assertEqual(self.undone(output), expected + CALM, output)
            # a sequence may be cut anywhere
            self.assertEqual(self.undone(*(output[at : at + 1] for at in range(len(output)))), expected + CALM, output)

    def test_alternate(self) -> None:
        """A full-screen program is known by its screen; undoing ends it."""
        modes = ScreenModes()
        modes.feed(b"\x1b[?1049h")
        self.assertTrue(modes.alternate)
        modes.undo()
        self.assertFalse(modes.alternate)

    def test_no_end(self) -> None:
        """An escape that never ends is not kept for long."""
        modes = ScreenModes()
        modes.feed(b"\x1b[?" + b"1;" * 100_000)
        modes.feed(b"x" * 100)
        self.assertEqual(modes.undo(), CALM)
